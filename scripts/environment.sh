# Sourced by the other scripts: finds a Python, and makes a virtual environment of the checkout's own.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

python=""
for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Klipper Router needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# make_environment DIR STAMP COMMAND…: DIR is made anew unless COMMAND, an installation, was done for this STAMP.
make_environment() {
    local environment=$1 stamp=$2
    shift 2
    if [ "$(cat "$environment/.installed" 2>/dev/null)" != "$stamp" ]; then
        echo "making $environment ..." >&2
        rm -rf "$environment"
        "$python" -m venv "$environment" || {
            echo "cannot make a virtual environment; on Debian: apt install python3-venv" >&2
            return 1
        }
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2 || return 1
        echo "$stamp" >"$environment/.installed"
    fi
}
