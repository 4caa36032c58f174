"""bench/store: turns that are on disk when they are told of. Needs no model. Python's standard library only.

Rows, with --json one object a line:
  durable_turn   turns a second that a store acknowledges at level turn, each with its pages and a state of 200 bytes; `callers` threads
                 commit `batch` turns a call, of as many actors. theirs: rows of that size that SQLite inserts by itself, as many a transaction as
                 turns can wait at once. syncs: of one appended page, one after another, a second; turns_a_group: what one pair of syncs carried

ours, theirs and syncs are medians of rounds that took turns; ratio = ours / theirs of the same round.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

import rows

SHAPES = ((1, 1), (16, 1), (64, 1), (1, 64), (2, 512))  # callers, turns a call


def options_of():
    parser = argparse.ArgumentParser(prog="bench/store", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--folder", type=pathlib.Path, help="where the store lies while it is measured: its disk (default: the cache's)")
    parser.add_argument("--pages", type=int, default=1, help="a turn writes (default 1)")
    parser.add_argument("--rounds", type=int, help="how often all sides take turns (default 3)")
    parser.add_argument("--ms", type=int, help="milliseconds of each side in a round (default 1000)")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that it runs: no figures")
    parser.add_argument("--ours", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--theirs", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.name = "store"
    options.rounds = options.rounds or rows.size(options, 3, 1)
    options.ms = options.ms or rows.size(options, 1000, 20)
    if options.rounds < 1 or options.ms < 1 or not 0 <= options.pages <= 64:
        parser.error("--rounds and --ms begin at 1, --pages ends at 64")
    if options.folder:
        options.folder = pathlib.Path(os.environ.get("DRIFTWOOD_BENCH_FROM", "")) / options.folder
    return options


def measured(options, callers: int, batch: int) -> dict:
    home = options.folder or pathlib.Path(os.environ.get("DRIFTWOOD_CACHE") or pathlib.Path.home() / ".cache/driftwood")
    home.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="bench-store-", dir=home)
    try:
        values = {"folder": folder, "callers": callers, "batch": batch, "pages": options.pages, "rounds": options.rounds, "ms": options.ms}
        return rows.lines_of(options, [str(options.ours / "bench_store"), *(word for name, value in values.items() for word in ("--" + name, str(value)))])[0]
    finally:
        shutil.rmtree(folder)


def row_of(options, callers: int, batch: int) -> dict:
    got = measured(options, callers, batch)
    ratios = [ours / theirs for ours, theirs in zip(got["turns"], got["inserts"]) if theirs > 0]
    return {"name": "durable_turn", "callers": callers, "batch": batch, "pages": options.pages, "ours": rows.shown(statistics.median(got["turns"])),
            "theirs": rows.shown(statistics.median(got["inserts"])), "ratio": rows.shown(statistics.median(ratios)) if ratios else None,
            "unit": "turns/s", "better": "higher", "against": "SQLite's own inserts", "syncs": rows.shown(statistics.median(got["syncs"])),
            "turns_a_group": rows.shown(got["turns_a_group"]), "rounds": options.rounds, "load": round(os.getloadavg()[0], 2)}


def main() -> int:
    options = options_of()
    heads = ("callers", "batch", "pages", "ours", "theirs", "ratio", "syncs", "turns_a_group")
    if not options.json:
        print(f"{'':14}" + "".join(f"{head:>14}" for head in heads))
    for callers, batch in SHAPES:
        row = row_of(options, callers, batch)
        print(json.dumps(row) if options.json else f"{row['name']:14}" + "".join(f"{rows.cell(row, head):>14}" for head in heads), flush=True)
    if options.quick and not options.json:
        print("--quick shows that everything runs; these are no figures.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
