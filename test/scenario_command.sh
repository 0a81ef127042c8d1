# Sourced by run.sh and run-tmux.sh: `command` is klipper-router, `arguments` are theirs with absolute paths.
#
# klipper-router is that of $KLIPPER_ROUTER, else that of the virtual environment that is active, else one in an
# environment of the checkout's own (.venv-demo, as scripts/demo.sh makes it).

if [ $# -eq 0 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    sed -n '2,/^[^#]/s/^# //p' "$0" >&2
    exit 2
fi
# What follows may change the directory; a path of the caller's stays his.
arguments=()
for argument in "$@"; do
    case $argument in
    -*) arguments+=("$argument") ;;
    *) if [ -e "$argument" ]; then arguments+=("$(realpath -s "$argument")"); else arguments+=("$argument"); fi ;;
    esac
done

if [ -n "${KLIPPER_ROUTER:-}" ]; then
    command=("$KLIPPER_ROUTER")
elif [ -x "${VIRTUAL_ENV:-/nowhere}/bin/klipper-router" ]; then
    command=("$VIRTUAL_ENV/bin/klipper-router")
else
    source "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
    make_environment .venv-demo "$(cat pyproject.toml | cksum) $("$python" --version)" --editable .
    command=("$PWD/.venv-demo/bin/klipper-router")
fi
