#!/usr/bin/env bash
# Everything that must hold: linters, types, tests; in an environment of its own (.venv), with locked packages.
# Arguments go to pytest. KLIPPER_DIR=~/klipper runs test/klipper against a real Klipper, too.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

stamp="$(cat requirements-dev.txt | cksum) $("$python" --version)"
make_environment .venv "$stamp" --require-hashes --requirement requirements-dev.txt
# Not locked by a hash: the checkout itself. Its packages are there already.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/pytest "$@"
