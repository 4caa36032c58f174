# Sourced by bench/engine, bench/share, bench/latency, bench/state and bench/store with NAME in $0 and their arguments in "$@": builds what they need (llama.cpp's
# programs into the cache, ours into build-bench/) and goes on as bench/NAME.py.
#
# shellcheck shell=sh
from=$PWD
cd "$(dirname "$0")/.."
name=$(basename "$0")

case " $* " in
    *' --help '* | *' -h '*) exec python3 -B "bench/$name.py" --help ;;
esac

. scripts/setup.sh
{
    dw_setup run
    dw_dependencies
    case " $name $* " in
        ' latency '* | ' state '* | ' store '* | *' --alone '*) programs= ;;
        *)
            deps/build.sh bench | grep -v _PREFIX= || true
            programs=$(deps/build.sh bench | sed -n 's/^BENCH_PREFIX=//p')
            for program in llama-bench llama-batched-bench llama-server; do
                [ -x "$programs/bin/$program" ] || dw_fail "$program could not be built"
            done
            ;;
    esac
    dw_configure build-bench -DDW_BENCH=ON -DDW_WASMTIME_PREFIX="$dw_wasmtime_prefix" -DDW_LLAMA_PREFIX="$dw_llama_prefix"
    dw_build build-bench
} >&2

export DRIFTWOOD_BENCH_FROM="$from"
exec python3 -B "bench/$name.py" --ours "$PWD/build-bench" --theirs "$programs/bin" "$@"
