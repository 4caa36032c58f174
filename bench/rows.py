"""What bench/engine, bench/share and bench/latency have in common: options, the programs they run, and rows. Python's standard library only.

A row is one JSON object:
  name, unit, better          what was measured ("better": which way is good)
  sessions, weights, mode     how many sessions at a time; mapped or repacked; exact or fast sessions (null where it says nothing)
  ours, theirs, ratio         medians; ratio = ours / theirs, taken pair by pair (ours[i] was measured right beside theirs[i])
  ..._min, ..._max, rounds    their spread, and how many pairs there are
  against                     what the other side is
and what the measuring programs and this machine say of themselves.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys

BUSY = 0.5  # load per core above which a table says so
WEIGHTS = ("mapped", "repacked")
MODES = ("exact", "fast")


# --- options ---------------------------------------------------------------------------------


def words_of(known: tuple):
    def take(text: str) -> list:
        words = [word for word in text.split(",") if word]
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"there is no '{word}': {', '.join(known)}")
        return words
    return take


def numbers(text: str) -> list:
    found = [int(word) for word in text.split(",") if word]
    if not found or min(found) < 1 or max(found) > 255:
        raise argparse.ArgumentTypeError("numbers from 1 to 255 with commas between them")
    return found


def parser_of(name: str, text: str, parts: tuple, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"bench/{name}", formatter_class=argparse.RawDescriptionHelpFormatter, description=text)
    if parts:
        parser.add_argument("part", nargs="*", help=f"what to measure: {', '.join(parts)} (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--model", help="GGUF file (default: Gemma 3 270M, fetched once)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--rounds", type=int, help=f"how often both sides take turns (default {rounds})")
    parser.add_argument("--mode", type=words_of(MODES), default=list(MODES), help="kinds of our sessions (default: exact,fast)")
    parser.add_argument("--quick", action="store_true", help="one small round of everything, to see that it runs: no figures")
    parser.add_argument("--alone", action="store_true", help="our side only: needs none of llama.cpp's programs")
    parser.add_argument("--ours", type=pathlib.Path, help=argparse.SUPPRESS)    # folder with bench_engine and its like
    parser.add_argument("--theirs", type=pathlib.Path, help=argparse.SUPPRESS)  # folder with llama-bench and its like
    parser.set_defaults(name=name, parts=parts, default_rounds=rounds)
    return parser


def parsed(parser: argparse.ArgumentParser):
    options = parser.parse_args()
    for part in getattr(options, "part", []):
        if part not in options.parts:
            parser.error(f"there is no part '{part}': {', '.join(options.parts)}")
    if options.rounds is None:
        options.rounds = 1 if options.quick else options.default_rounds
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads begin at 1")
    if options.model:
        options.model = file_of(parser, options.model)
    else:
        options.model = output_of(options, [str(pathlib.Path(__file__).resolve().parent.parent / "scripts/model.sh")]).strip()
    return options


def file_of(parser: argparse.ArgumentParser, path: str) -> str:
    """The script has changed the folder; the user means a file as seen from theirs."""
    path = os.path.join(os.environ.get("DRIFTWOOD_BENCH_FROM", ""), path)
    if not os.path.isfile(path):
        parser.error(f"there is no file '{path}'")
    return path


def size(options, full: int, quick: int) -> int:
    return quick if options.quick else full


# --- programs --------------------------------------------------------------------------------


def output_of(options, command: list) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"bench/{options.name}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def lines_of(options, command: list) -> list:
    return [json.loads(line) for line in output_of(options, command).splitlines() if line.startswith("{")]


def arguments_of(values: dict) -> list:
    """{'made_tokens': 64} as --made-tokens 64."""
    return [word for name, value in values.items() for word in ("--" + name.replace("_", "-"), str(int(value) if isinstance(value, bool) else value))]


def engine(options, part: str, **values) -> dict:
    """Series of a part of bench_engine, by name."""
    command = [str(options.ours / "bench_engine"), part, "--model", options.model, "--device", options.device, "--threads", str(options.threads)]
    return {series.get("name", part): series for series in lines_of(options, command + arguments_of(values))}


def llama_device(options) -> list:
    """Arguments of llama.cpp's programs for the device that ours uses."""
    if options.device == "cpu":
        return ["-dev", "none", "-ngl", "0"]
    name = options.device.rstrip("0123456789")
    number = options.device[len(name):] or "0"
    backend = {"vulkan": "Vulkan", "cuda": "CUDA", "metal": "MTL"}.get(name)
    if backend is None:
        sys.exit(f"bench/{options.name}: llama.cpp has no name for device {options.device}")
    return ["-dev", backend + number, "-ngl", "99"]


def llama_common(options, weights: str) -> list:
    """Arguments that llama.cpp's programs share, but for llama-bench: what our side does too."""
    return ["-m", options.model, "-t", str(options.threads), "-tb", str(options.threads), "-fa", "on", "-ctk", "f16", "-ctv", "f16",
            "-b", "2048", "-ub", "512", "-lm", "mmap", "--repack" if weights == "repacked" else "--no-repack"] + llama_device(options)


# --- rows ------------------------------------------------------------------------------------


class Rows:
    """Collects pairs of values under a name and what tells rows of that name apart; then sums them up."""

    def __init__(self, options):
        self.options = options
        self.setting = engine(options, "info")["info"]
        self.rows = []
        self.collected = {}
        self.load_before = os.getloadavg()[0]
        self.salt = 1

    def next_salt(self, n: int) -> int:
        """The first of n salts that no prompt of this run has had."""
        self.salt += n
        return self.salt - n

    def add(self, name: str, unit: str, better: str, ours: list, theirs, against, sessions=1, weights="mapped", mode="exact",
            percentiles=False, **conditions) -> None:
        key = (name, sessions, weights, mode, against)
        row = self.collected.setdefault(key, {
            "name": name, "unit": unit, "better": better, "against": against, "ours": [], "theirs": [], "percentiles": percentiles,
            "told": {"sessions": sessions, "weights": weights, "mode": mode}, "conditions": conditions})
        row["ours"] += ours
        row["theirs"] += theirs or []

    def add_series(self, series: dict, theirs=None, against=None, name=None, **told) -> None:
        """A series of bench_engine. The other side is its own, or `theirs`."""
        self.add(name or series["name"], series["unit"], series["better"], series["ours"], theirs if theirs is not None else series.get("theirs"),
                 against or series.get("against"), **{**series["conditions"], **told})

    def part_is_done(self) -> None:
        load = [round(self.load_before, 2), round(os.getloadavg()[0], 2)]
        for row in self.collected.values():
            out = summary(row, self.setting, load)
            self.rows.append(out)
            if self.options.json:
                print(json.dumps(out), flush=True)
        self.collected = {}
        self.load_before = os.getloadavg()[0]


def shown(value):
    return None if value is None else float(f"{value:.4g}")


def percentile(values: list, share: float):
    """The least value that at least this share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summary(row: dict, setting: dict, load: list) -> dict:
    ours, theirs = row["ours"], row["theirs"]
    out = {"name": row["name"], **row["told"], "ours": shown(statistics.median(ours)), "theirs": None, "ratio": None, "unit": row["unit"],
           "better": row["better"]}
    out.update(ours_min=shown(min(ours)), ours_max=shown(max(ours)))
    if theirs:
        out.update(theirs=shown(statistics.median(theirs)), theirs_min=shown(min(theirs)), theirs_max=shown(max(theirs)), against=row["against"])
        ratios = [a / b for a, b in zip(ours, theirs) if b != 0]
        if ratios:
            out.update(ratio=shown(statistics.median(ratios)), ratio_min=shown(min(ratios)), ratio_max=shown(max(ratios)))
        if row["unit"] == "us/token":
            out["added"] = shown(statistics.median(a - b for a, b in zip(ours, theirs)))
    if row["percentiles"]:
        # Single turns on both sides, no pairs: a ratio would tell nothing.
        for key in ("ratio", "ratio_min", "ratio_max"):
            out.pop(key, None)
        out.update(ours_p50=shown(percentile(ours, 0.5)), ours_p99=shown(percentile(ours, 0.99)))
        if theirs:
            out.update(theirs_p50=shown(percentile(theirs, 0.5)), theirs_p99=shown(percentile(theirs, 0.99)))
    out["rounds"] = len(ours)
    out.update(row["conditions"])
    out.update(setting)
    out["load_before_and_after"] = load
    return out


def tell(options, text: str) -> None:
    if not options.json:
        print(text, file=sys.stderr)


def measure_parts(options, out: "Rows", all_parts: tuple, in_rounds: dict, at_once: dict | None = None) -> int:
    """Measures the parts that are asked for: those of `in_rounds` as often as options say. Shows a table, or has shown JSON."""
    for part in options.part or all_parts:
        repeated = part in in_rounds
        for i in range(options.rounds if repeated else 1):
            tell(options, f"{part}: round {i + 1} of {options.rounds}" if repeated else f"{part} ...")
            (in_rounds if repeated else at_once)[part](options, out)
        out.part_is_done()
    if not options.json:
        print_table(out)
    return 0


def cell(row: dict, key: str) -> str:
    return "-" if row.get(key) is None else f"{row[key]:g}"


def print_table(rows: Rows) -> None:
    setting = rows.setting
    print(f"{setting['model']} {setting['file_type']}, {setting['device']}, {setting['threads']} threads; {setting['processor']}")
    print(f"{'':24}{'sessions':>9} {'':15}{'ours':>10}{'theirs':>10}  {'unit':10}{'ratio':>7}  {'(least to most)':20}{'added':>9}  {'beside':30}")
    for row in rows.rows:
        spread = f"({cell(row, 'ratio_min')} to {cell(row, 'ratio_max')})" if row.get("ratio") is not None else f"{cell(row, 'ours_min')} to {cell(row, 'ours_max')}"
        kind = " ".join(word for word in (row["mode"], row["weights"]) if word)
        print(f"{row['name']:24}{cell(row, 'sessions'):>9} {kind:15}{cell(row, 'ours'):>10}{cell(row, 'theirs'):>10}  {row['unit']:10}"
              f"{cell(row, 'ratio'):>7}  {spread:20}{cell(row, 'added'):>9}  {row.get('against') or ''}")
    say_if_busy(rows)


def say_if_busy(rows: Rows) -> None:
    busiest = max(max(row["load_before_and_after"]) for row in rows.rows)
    if busiest > BUSY * (os.cpu_count() or 1) + rows.setting["threads"]:
        print(f"The machine was busy with other things (load {busiest:g}): trust ratios, not absolute figures.")
    if rows.options.quick:
        print("--quick shows that everything runs; these are no figures.")
