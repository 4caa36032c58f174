"""bench/engine's second half: runs both sides in turn, and says how they compare. Python's standard library only.

Rows, with --json one object a line:
  prefill_512, decode_128     tokens/s of one session, native loop, beside llama-bench with its defaults (-b 2048 -ub 512)
  prefill_512_chunk           the same prefill, llama-bench cut into our chunk (-ub 256): the same shapes on both sides
  actor_generate, _forward    us per token through an actor beside the native loop, same process and tokens; GENERATE, and a loop of the
                              guest's own. *_outside is the part outside of the model's steps; its `added` is what the actor costs
  guest_to_host_*, host_to_guest, instance_restore   beside plain Wasmtime
  empty_turn, commit_10_pages                        nothing to stand beside
  kv_fork_N, kv_thaw_N        maps of N tokens' KV rows, beside a copy of them

ratio = ours / theirs, taken pair by pair (ours[i] was measured right beside theirs[i]); ours, theirs, ratio and added are medians.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

PARTS = ("speed", "actor", "calls", "kv")
BUSY = 0.5  # load per core above which a table says so


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/engine", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("part", nargs="*", help="what to measure: speed, actor, calls, kv (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--model", help="GGUF file (default: Gemma 3 270M, fetched once)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5, help="pairs of processes for speed, repeats for the rest (default 5)")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--llama-bench", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for part in options.part:
        if part not in PARTS:
            parser.error(f"there is no part '{part}': {', '.join(PARTS)}")
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads begin at 1")
    if options.model:
        options.model = os.path.join(os.environ.get("DRIFTWOOD_BENCH_FROM", ""), options.model)
        if not os.path.isfile(options.model):
            parser.error(f"there is no file '{options.model}'")
    else:
        root = pathlib.Path(__file__).resolve().parent.parent
        options.model = output_of([str(root / "scripts/model.sh")]).strip()
    return options


def output_of(command: list) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"bench/engine: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def lines_of(command: list) -> list:
    return [json.loads(line) for line in output_of(command).splitlines() if line.startswith("{")]


# --- the two sides ---------------------------------------------------------------------------


def engine(options, part: str, repeats: int) -> list:
    return lines_of([options.engine, part, "--model", options.model, "--device", options.device,
                     "--threads", str(options.threads), "--repeats", str(repeats)])


def llama_bench(options, micro_batch: int, prompt: int, made: int, repeats: int) -> dict:
    """Tokens/s by test name; repack off and weights mapped, as ours are."""
    command = [options.llama_bench, "-m", options.model, "-p", str(prompt), "-n", str(made), "-ub", str(micro_batch), "-r", str(repeats),
               "-t", str(options.threads), "-fa", "on", "-lm", "mmap", "--repack", "0", "-o", "jsonl"]
    if options.device == "cpu":
        command += ["-dev", "none", "-ngl", "0"]
    else:
        name = options.device.rstrip("0123456789")
        number = options.device[len(name):] or "0"
        backend = {"vulkan": "Vulkan", "cuda": "CUDA", "metal": "MTL"}.get(name)
        if backend is None:
            sys.exit(f"bench/engine: llama-bench has no name for device {options.device}")
        command += ["-dev", backend + number, "-ngl", "99"]
    return {f"prefill_{test['n_prompt']}" if test["n_prompt"] else f"decode_{test['n_gen']}": test["samples_ts"]
            for test in lines_of(command)}


def speed(options) -> list:
    """Process by process in turn, each pair with its own ratio: a machine that others use drifts within minutes."""
    repeats = 2
    rows = {}

    def add(name, ours, theirs, against, conditions):
        row = rows.setdefault(name, {"name": name, "unit": "tokens/s", "better": "higher", "against": against,
                                     "conditions": {**conditions, "repeats_in_a_round": repeats}, "ours": [], "theirs": []})
        row["ours"].append(statistics.median(ours))
        row["theirs"].append(statistics.median(theirs))

    for i in range(options.rounds):
        tell(options, f"speed: round {i + 1} of {options.rounds}")
        ours = {row["name"]: row for row in engine(options, "speed", repeats)}
        prefill, decode = ours["prefill_512"], ours["decode_128"]
        chunk = prefill["conditions"]["chunk_tokens"]
        theirs = llama_bench(options, 512, 512, 128, repeats)
        same_chunk = llama_bench(options, chunk, 512, 0, repeats)
        defaults = "llama-bench -b 2048 -ub 512 (its defaults) -fa on --repack 0"
        add("prefill_512", prefill["ours"], theirs["prefill_512"], defaults, prefill["conditions"])
        add("prefill_512_chunk", prefill["ours"], same_chunk["prefill_512"],
            f"llama-bench -b 2048 -ub {chunk} -fa on --repack 0", prefill["conditions"])
        add("decode_128", decode["ours"], theirs["decode_128"], defaults, decode["conditions"])
    return list(rows.values())


# --- rows ------------------------------------------------------------------------------------


def shown(value):
    return None if value is None else float(f"{value:.4g}")


def summary(row: dict, setting: dict, load: list) -> dict:
    ours, theirs = row["ours"], row.get("theirs")
    out = {"name": row["name"], "ours": shown(statistics.median(ours)), "theirs": None, "ratio": None, "unit": row["unit"],
           "better": row["better"]}
    out.update(ours_min=shown(min(ours)), ours_max=shown(max(ours)))
    if theirs:
        ratios = [a / b for a, b in zip(ours, theirs)]
        out.update(theirs=shown(statistics.median(theirs)), ratio=shown(statistics.median(ratios)), theirs_min=shown(min(theirs)),
                   theirs_max=shown(max(theirs)), ratio_min=shown(min(ratios)), ratio_max=shown(max(ratios)), against=row["against"])
        if row["unit"] == "us/token":
            out["added"] = shown(statistics.median(a - b for a, b in zip(ours, theirs)))
    out["rounds"] = len(ours)
    out.update(row["conditions"])
    out.update(setting)
    out["load_before_and_after"] = load
    return out


def tell(options, text: str) -> None:
    if not options.json:
        print(text, file=sys.stderr)


def print_table(rows: list, setting: dict) -> None:
    print(f"{setting['model']} {setting['file_type']}, {setting['device']}, {setting['threads']} threads, weights {setting['weights']}; "
          f"{setting['processor']}")
    print(f"{'':24}{'ours':>10}{'theirs':>10}  {'unit':10}{'ratio':>7}  {'(least to most)':17}{'added':>9}  {'beside':30}")
    for row in rows:
        def cell(key):
            return "-" if row.get(key) is None else f"{row[key]:g}"
        spread = f"({cell('ratio_min')} to {cell('ratio_max')})" if row["ratio"] is not None else f"{cell('ours_min')} to {cell('ours_max')}"
        print(f"{row['name']:24}{cell('ours'):>10}{cell('theirs'):>10}  {row['unit']:10}{cell('ratio'):>7}  {spread:17}"
              f"{cell('added'):>9}  {row.get('against', '')}")
    busiest = max(max(row["load_before_and_after"]) for row in rows)
    if busiest > BUSY * (os.cpu_count() or 1) + setting["threads"]:
        print(f"The machine was busy with other things (load {busiest:g}): trust ratios, not absolute figures.")


def main() -> int:
    options = arguments()
    setting = engine(options, "info", 1)[0]
    done = []
    for part in options.part or PARTS:
        before = os.getloadavg()[0]
        tell(options, f"{part} ...")
        series = speed(options) if part == "speed" else engine(options, part, options.rounds)
        load = [round(before, 2), round(os.getloadavg()[0], 2)]
        for row in series:
            out = summary(row, setting, load)
            done.append(out)
            if options.json:
                print(json.dumps(out), flush=True)
    if not options.json:
        print_table(done, setting)
    return 0


if __name__ == "__main__":
    sys.exit(main())
