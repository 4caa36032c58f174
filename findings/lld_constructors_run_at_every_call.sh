#!/bin/sh
# Software:  wasm-ld of LLVM 20, as the Zig compiler 0.15.2 carries it (package ziglang on the Python index); wasmtime 50.0.1 runs the result.
# Input:     a C++ module with one object whose constructor sets a counter to 100, and an export that adds one and returns it; linked with
#            --no-entry, as a library of exports without a main is.
# Guess:     the constructor runs once, or never: 101, 102, 103, or 1, 2, 3.
# Behaviour: the linker wraps every export in a function that runs all constructors first: 101, 101, 101. Whoever exports
#            __wasm_call_ctors, or links a reactor (-mexec-model=reactor, then _initialize is called once), gets 101, 102, 103.
#            Nothing is printed when linking. With no constructor in this program the exports are as they were written, so that it
#            changes its meaning when its first such object comes, in whatever library.
# Meets us:  a program that keeps its state in its memory forgets it with each message.
folder=$(mktemp -d)
. "$(dirname "$0")/common.sh"
packages ziglang==0.15.2 wasmtime==50.0.1
cat >"$folder/seed.cpp" <<'EOF'
extern "C" int seed() { return 100; }
EOF
cat >"$folder/count.cpp" <<'EOF'
extern "C" int seed();
struct counter { int n; counter() : n(seed()) {} };
static counter counts;
extern "C" __attribute__((export_name("count"))) int count() { return ++counts.n; }
EOF
cat >"$folder/call.py" <<'EOF'
import sys
import wasmtime
engine = wasmtime.Engine()
store = wasmtime.Store(engine)
exports = wasmtime.Instance(store, wasmtime.Module.from_file(engine, sys.argv[1]), []).exports(store)
if "__wasm_call_ctors" in exports:
    exports["__wasm_call_ctors"](store)
print([exports["count"](store) for _ in range(3)])
EOF
export ZIG_GLOBAL_CACHE_DIR="$folder/zig" ZIG_LOCAL_CACHE_DIR="$folder/zig"
link() {
    "$python" -m ziglang c++ -target wasm32-freestanding -nostdlib -O1 "$folder/seed.cpp" "$folder/count.cpp" -Wl,--no-entry "$@"
}
link -o "$folder/wrapped.wasm"
link -Wl,--export=__wasm_call_ctors -o "$folder/exported.wasm"
{
    echo "as linked:                    $("$python" "$folder/call.py" "$folder/wrapped.wasm")"
    echo "with constructors exported:   $("$python" "$folder/call.py" "$folder/exported.wasm")"
} | seen 'as linked:                    [101, 101, 101]
with constructors exported:   [101, 102, 103]'
