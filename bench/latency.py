"""bench/latency's second half: short turns while the engine is busy, beside the same turns while it is not. Python's standard library only.

Rows, with --json one object a line (bench/rows.py says what is in it):
  turn_no_model    ms from a message to the commit of the turn that handles it, in a guest that reads it and returns
  turn_realtime    the same of a turn that makes 8 tokens with a small model, in the real-time class
  turn_normal      the same in the normal class

ours: while 16 sessions of the normal class decode and one prefills 4,000 tokens, again and again, with the big model.
theirs: on the idle runtime. Both have p50, p99 and max; blocks of them took turns in one process.
mode is that of the sessions of the load.
"""
import sys

import rows


def print_turns(out: rows.Rows) -> None:
    setting = out.setting
    print(f"{setting['model']} {setting['file_type']}, {setting['device']}, {setting['threads']} threads; {setting['processor']}")
    print(f"{'ms':16}{'load of':9}{'turns':>6}   {'p50':>9}{'p99':>9}{'max':>9}   {'idle: p50':>9}{'p99':>9}{'max':>9}   {'load, texts/s':>9}")
    for row in out.rows:
        busy, idle = ("".join(f"{rows.cell(row, f'{side}_{what}'):>9}" for what in ("p50", "p99", "max")) for side in ("ours", "theirs"))
        print(f"{row['name']:16}{row['mode']:9}{row['rounds']:>6}   {busy}   {idle}   {row['load_texts_per_s']:>9g}")
    rows.say_if_busy(out)


def main() -> int:
    parser = rows.parser_of("latency", __doc__, (), 5)
    parser.add_argument("--small", help="GGUF of the small model (default: the model, opened a second time)")
    parser.add_argument("--turns", type=int, help="of a kind in a round, a quarter of them in the normal class (default 40)")
    options = rows.parsed(parser)
    values = {"turns": options.turns or rows.size(options, 40, 4), "sessions": rows.size(options, 16, 2), "prompt_tokens": rows.size(options, 4000, 512)}
    if options.small:
        values["small"] = rows.file_of(parser, options.small)
    out = rows.Rows(options)
    for mode in options.mode:
        rows.tell(options, f"{mode}: {options.rounds} rounds ...")
        for series in rows.engine(options, "latency", repeats=options.rounds, fast=mode == "fast", **values).values():
            series["conditions"]["load_texts_per_s"] = rows.shown(series["conditions"]["load_texts_per_s"])
            out.add_series(series, sessions=values["sessions"] + 1, mode=mode, percentiles=True)
    out.part_is_done()
    if not options.json:
        print_turns(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
