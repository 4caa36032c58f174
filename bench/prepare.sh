# Sourced by bench/engine, bench/share, bench/latency, bench/state and bench/store with NAME in $0 and their arguments in "$@": builds
# what they need (llama.cpp's programs into the cache, ours into build-bench/) and goes on as bench/NAME.py. DRIFTWOOD_VULKAN=1 or
# DRIFTWOOD_CUDA=1 gives both sides this device.
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
    # shellcheck disable=SC2046
    dw_dependencies oracle $(dw_asked_backends)
    case " $name $* " in
        ' latency '* | ' state '* | ' store '* | *' --alone '*) programs= ;;
        *)
            dw_dependencies bench
            programs=$(dw_prefix bench)
            for program in llama-bench llama-batched-bench llama-server; do
                [ -x "$programs/bin/$program" ] || dw_fail "$program could not be built"
            done
            ;;
    esac
    dw_configure build-bench -DDW_BENCH=ON -DDW_ORACLE_PREFIX="$(dw_prefix oracle)"
    dw_build build-bench
} >&2

export DRIFTWOOD_BENCH_FROM="$from"
exec python3 -B "bench/$name.py" --ours "$PWD/build-bench" --theirs "$programs/bin" "$@"
