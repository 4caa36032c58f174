#!/bin/sh
# Prints the path of a Python of our own: a virtual environment in the cache, never the system's
# packages.
#
#   scripts/python.sh          with pip only (fetching the model)
#   scripts/python.sh tests    with the packages of tests/requirements.txt, pinned by hash
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}
venv=$cache/python
python=$venv/bin/python3

# The environment is remade when the system's Python that it rests on is gone.
if ! "$python" -c '' 2>/dev/null || [ ! -f "$venv/ready" ]; then
    rm -rf "$venv"
    mkdir -p "$cache"
    # Some systems have several; one that can make environments with pip is enough.
    made=
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -m venv "$venv" >"$cache/python.log" 2>&1; then
            made=1
            break
        fi
        rm -rf "$venv"
    done
    if [ ! "$made" ]; then
        cat "$cache/python.log" >&2
        echo "python: python3 cannot make a virtual environment (Debian: package python3-venv)" >&2
        exit 1
    fi
    : >"$venv/ready"
fi

if [ "${1:-}" = tests ] && ! cmp -s "$here/../tests/requirements.txt" "$venv/tests-requirements.txt"; then
    echo "python: installing the packages of tests/requirements.txt into $venv" >&2
    "$python" -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
        -r "$here/../tests/requirements.txt" >&2
    cp "$here/../tests/requirements.txt" "$venv/tests-requirements.txt"
fi
printf '%s\n' "$python"
