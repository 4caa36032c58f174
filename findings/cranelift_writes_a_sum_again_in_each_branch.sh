#!/bin/sh
# Software:  Cranelift in wasmtime 50.0.1 (Python), at its default level of optimisation, "speed".
# Input:     a function that adds n times to a sum either of two values, one of which is made of the sum so far; 5.5 KB at n = 200.
# Guess:     native code grows with n, as it does without optimisation; optimised it is the smaller one.
# Behaviour: it grows with the square of n: each branch holds the sum before it written out anew. At n = 200 the optimised code is
#            more than ten times that of the level "none", for more than ten times the time. (Whole modules are compared, page by page.)
# Meets us:  a program of kilobytes takes minutes to compile where it has a long such chain. We give compiling a limit of time.
folder=$(mktemp -d)
. "$(dirname "$0")/common.sh"
packages wasmtime==50.0.1
cat >"$folder/compile.py" <<'EOF'
import wasmtime

def chain(n):
    lines = ['(module (func (export "f") (param $c i32) (param $p i32) (result i32) (local $x i32)', "(local.set $x (local.get $p))"]
    for k in range(n):
        test = f"(i32.and (local.get $c) (i32.const {1 << k % 31}))"
        then = f"(then (i32.add (local.get $p) (i32.const {k})))"
        other = f"(else (i32.xor (local.get $x) (i32.const {k})))"
        lines.append(f"(local.set $x (i32.add (local.get $x) (if (result i32) {test} {then} {other})))")
    return wasmtime.wat2wasm("\n".join([*lines, "(local.get $x)))"]))

def bytes_of_code(level, n):
    config = wasmtime.Config()
    config.cranelift_opt_level = level
    return len(wasmtime.Module(wasmtime.Engine(config), chain(n)).serialize())

optimised = {n: bytes_of_code("speed", n) for n in (0, 100, 200)}
plain = {n: bytes_of_code("none", n) for n in (0, 200)}
own = {n: size - optimised[0] for n, size in optimised.items()}
print("twice the length, optimised:", "more than three times the code" if own[200] > 3 * own[100] else "as much again")
print("optimised beside not:", "more than ten times" if optimised[200] > 10 * plain[200] else "less than ten times")
EOF
"$python" "$folder/compile.py" | seen 'twice the length, optimised: more than three times the code
optimised beside not: more than ten times'
