#!/bin/sh
# Software:  wasmtime 50.0.1 (Python); 48.0.8 through its C interface does the same.
# Input:     a module in which one immutable global is initialised by another one that the module defines itself, as linkers write
#            for addresses. No type of the garbage collection proposal occurs in it.
# Guess:     turning that proposal off takes away its types and instructions, so nothing that this module has.
# Behaviour: the module is invalid then ("constant expression required"): that initialisers may read the module's own globals came
#            into the standard with that proposal, and goes with its switch.
# Meets us:  who builds a smaller Wasmtime without the proposal refuses programs that have nothing to do with it. We build it with it.
folder=$(mktemp -d)
. "$(dirname "$0")/common.sh"
packages wasmtime==50.0.1
cat >"$folder/validate.py" <<'EOF'
import wasmtime

for gc in True, False:
    config = wasmtime.Config()
    config.wasm_gc = gc
    try:
        wasmtime.Module(wasmtime.Engine(config), "(module (global $a i32 (i32.const 8)) (global i32 (global.get $a)))")
        said = "valid"
    except wasmtime.WasmtimeError as error:
        said = str(error).splitlines()[-1].strip().split(" (at")[0]
    print(f"wasm_gc={gc}: {said}")
EOF
"$python" "$folder/validate.py" | seen 'wasm_gc=True: valid
wasm_gc=False: constant expression required: global.get of locally defined global'
