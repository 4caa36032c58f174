#!/bin/sh
# cxx_exceptions.sh ZIG SOURCE.cpp TARGET.wasm FOLDER: a guest in C++ with exceptions in the form of WebAssembly 3.0.
#
# Zig brings Clang and the sources of libc++abi and of the unwinder, whose own build it makes without exceptions for
# WASI. So what throws and catches is compiled here, in FOLDER.
set -eu

zig=$1 source=$2 target=$3 folder=$4
mkdir -p "$folder"
export ZIG_GLOBAL_CACHE_DIR="$folder/cache" ZIG_LOCAL_CACHE_DIR="$folder/cache"
lib=$(cd "$folder" && "$zig" env | sed -n 's/.*lib_dir[": =]*"\(.*\)",/\1/p')
lib=$(cd "$folder" && cd "$lib" && pwd)

exceptions="-fwasm-exceptions -mllvm -wasm-use-legacy-eh=false -mcpu=generic+exception_handling+reference_types"
common="-target wasm32-wasi -O1 $exceptions -fno-sanitize=all"
abi="-std=c++20 -D_LIBCXXABI_HAS_NO_THREADS -D_LIBCPP_BUILDING_LIBRARY -DLIBCXX_BUILDING_LIBCXXABI"

# $common and $abi are lists of words.
# shellcheck disable=SC2086
{
    for name in cxa_exception cxa_personality cxa_exception_storage cxa_aux_runtime cxa_default_handlers cxa_handlers \
        private_typeinfo stdlib_exception stdlib_typeinfo abort_message fallback_malloc; do
        "$zig" c++ $common $abi -I"$lib/libcxxabi/include" -I"$lib/libcxxabi/src" -I"$lib/libcxx/include" \
            -I"$lib/libcxx/src" -I"$lib/libunwind/include" -c "$lib/libcxxabi/src/$name.cpp" -o "$folder/$name.o"
    done
    "$zig" c++ $common $abi -I"$lib/libcxxabi/include" -I"$lib/libcxx/include" -I"$lib/libcxx/src" \
        -I"$lib/libunwind/include" -c "$lib/libcxx/src/exception.cpp" -o "$folder/exception.o"
    "$zig" cc $common -D_LIBUNWIND_HIDE_SYMBOLS -D__WASM_EXCEPTIONS__ -fdeclspec -I"$lib/libunwind/include" \
        -I"$lib/libunwind/src" -c "$lib/libunwind/src/Unwind-wasm.c" -o "$folder/unwind.o"
    "$zig" c++ $common -c "$source" -o "$folder/guest.o"
    "$zig" c++ $common -mexec-model=reactor -nostdlib++ -s "$folder"/*.o -o "$target"
}
