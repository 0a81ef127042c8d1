#!/usr/bin/env bash
# Three virtual printers and a router, in an environment of its own (.venv-demo). No hardware, no Klipper needed.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

make_environment .venv-demo "$(cat pyproject.toml | cksum) $("$python" --version)" --editable .
here=$PWD
cd "$OLDPWD"  # the demo names paths as they are from where it was started
exec "$here/.venv-demo/bin/klipper-router" demo "$@"
