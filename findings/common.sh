# Sourced by the findings with a new folder's name in $folder: removes it at the end, and puts packages of Python into it.
# shellcheck shell=sh
set -eu
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

# packages NAME==VERSION...: $python has them afterwards
packages() {
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"
    python=$folder/venv/bin/python
}

# seen EXPECTED: compares with standard input
seen() {
    cat >"$folder/seen"
    cat "$folder/seen"
    if [ "$(cat "$folder/seen")" = "$1" ]; then
        echo "as described"
    else
        printf 'CHANGED; described is:\n%s\n' "$1"
        exit 1
    fi
}
