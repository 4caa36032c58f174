"""bench/state: turns that write pages all over an actor's memory. Needs no model. Python's standard library only.

The guest has 256 MiB and writes 8 bytes to each of N pages a turn, other ones in each turn, until all have been written and they come again.

Rows, with --json one object a line; `pages` is N:
  scattered_turn         us from a message to its committed turn; ours_first and ours_last: of the first and the last tenth of the turns (100
                         of 1,000): a cost that follows the change is the same in both; ours_mean and ours_p99 show what is put off and
                         comes back in some turns. pages 0 is an empty turn
  scattered_commit       us of it for the commit
  scattered_bytes        bytes of the pages that a turn wrote
  scattered_memory       bytes that the process has more after all turns: the guest's own pages, and those committed
  scattered_first_fork   us of the first fork of the actor after these turns, which may lay memory out anew
  scattered_fork         us of each fork after it
  scattered_fork_memory  bytes that the process has more per fork, each having had an empty turn

ours and theirs are medians over all turns of all rounds. theirs: another build of the same program (--before FOLDER, with its bench_state and
programs/), whose rounds took turns with ours; ratio = ours / theirs, of the medians of each round.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys

import rows

PAGES = (0, 10, 100, 10000)
COLUMNS = ("", "_first", "_last", "_mean", "_p99")


def options_of():
    parser = argparse.ArgumentParser(prog="bench/state", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--pages", type=int, action="append", help="a turn writes; may be given several times (default 0, 10, 100, 10000)")
    parser.add_argument("--turns", type=int, help="in a round (default 1000; a fifth of them above 1,000 pages)")
    parser.add_argument("--forks", type=int, help="per round (default 4)")
    parser.add_argument("--rounds", type=int, help="how often both sides take turns (default 3)")
    parser.add_argument("--before", type=pathlib.Path, help="folder of another build, measured beside this one")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that it runs: no figures")
    parser.add_argument("--ours", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--theirs", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.name = "state"
    options.rounds = options.rounds or rows.size(options, 3, 1)
    options.forks = options.forks or rows.size(options, 4, 2)
    if options.rounds < 1 or options.forks < 1:
        parser.error("--rounds and --forks begin at 1")
    if options.before:
        options.before = pathlib.Path(os.environ.get("DRIFTWOOD_BENCH_FROM", "")) / options.before
    return options


def turns_of(options, pages: int) -> int:
    turns = options.turns or rows.size(options, 1000, 20)
    return turns if pages <= 1000 else max(turns // 5, 10)


def measured(options, folder: pathlib.Path, pages: int) -> dict:
    values = {"pages": pages, "turns": turns_of(options, pages), "forks": options.forks, "programs": folder / "programs"}
    return rows.lines_of(options, [str(folder / "bench_state"), *map(str, rows.arguments_of(values))])[0]


def series_of(got: dict) -> dict:
    return {"scattered_turn": got["turns"], "scattered_commit": got["commits"], "scattered_bytes": [got["dirty_bytes_per_turn"]],
            "scattered_memory": [got["memory_bytes"]], "scattered_first_fork": [got["forks"]["first_us"]], "scattered_fork": got["forks"]["us"],
            "scattered_fork_memory": [got["forks"]["bytes_after_turn"]]}


def ends_of(rounds: list) -> tuple:
    """Medians of the first and of the last tenth of the turns of each round."""
    n = max(len(rounds[0]) // 10, 1)
    return (statistics.median(us for one in rounds for us in one[:n]), statistics.median(us for one in rounds for us in one[-n:]))


def mean_and_p99(rounds: list) -> tuple:
    values = [us for one in rounds for us in one]
    return rows.shown(statistics.mean(values)), rows.shown(rows.percentile(values, 0.99))


def row_of(name: str, pages: int, ours: list, theirs: list, options, page_bytes: int) -> dict:
    us = not name.endswith(("bytes", "memory"))
    out = {"name": name, "pages": pages, "ours": rows.shown(statistics.median(value for one in ours for value in one)), "theirs": None, "ratio": None,
           "unit": "us" if us else "bytes", "better": "lower"}
    if name in ("scattered_turn", "scattered_commit"):
        out["ours_first"], out["ours_last"] = map(rows.shown, ends_of(ours))
        out["ours_mean"], out["ours_p99"] = mean_and_p99(ours)
    if theirs:
        out["theirs"] = rows.shown(statistics.median(value for one in theirs for value in one))
        out["against"] = "the other build"
        if name in ("scattered_turn", "scattered_commit"):
            out["theirs_first"], out["theirs_last"] = map(rows.shown, ends_of(theirs))
            out["theirs_mean"], out["theirs_p99"] = mean_and_p99(theirs)
        ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(ours, theirs) if statistics.median(b) > 0]
        if ratios:
            out.update(ratio=rows.shown(statistics.median(ratios)), ratio_min=rows.shown(min(ratios)), ratio_max=rows.shown(max(ratios)))
    out.update(rounds=options.rounds, turns=turns_of(options, pages), forks=options.forks, page_bytes=page_bytes,
               load=round(os.getloadavg()[0], 2))
    return out


def print_row(row: dict) -> None:
    sides = "".join(f"{rows.cell(row, side + what):>11}" for side in ("ours", "theirs") for what in COLUMNS)
    print(f"{row['name']:22}{row['pages']:>6}{row['turns']:>6}{sides}  {row['unit']:6}{rows.cell(row, 'ratio'):>8}")


def main() -> int:
    options = options_of()
    if not options.json:
        heads = "".join(f"{what:>11}" for side in ("ours", "theirs") for what in (side, *(column[1:] for column in COLUMNS[1:])))
        print(f"{'':22}{'pages':>6}{'turns':>6}{heads}  {'unit':6}{'ratio':>8}")
    for pages in options.pages or (PAGES if not options.quick else (0, 10, 100, 2000)):
        ours, theirs = [], []
        for _ in range(options.rounds):
            got = measured(options, options.ours, pages)
            ours.append(series_of(got))
            if options.before:
                theirs.append(series_of(measured(options, options.before, pages)))
        for name in ours[0]:
            row = row_of(name, pages, [one[name] for one in ours], [one[name] for one in theirs], options, got["page_bytes"])
            print(json.dumps(row), flush=True) if options.json else print_row(row)
    if options.quick and not options.json:
        print("--quick shows that everything runs; these are no figures.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
