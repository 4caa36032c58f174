"""bench/share's second half: what it costs that many sessions have the same past. Python's standard library only.

Rows, with --json one object a line (bench/rows.py says what is in it):
  forks_time      us per fork, of 32 forks of a session with 4,000 tokens
  forks_memory    bytes that the process has more when all 32 have made 32 tokens each than before they were there (private pages and
                  memory objects); for llama.cpp, than with one sequence
  forks_own       bytes of KV rows that are the forks' own then, by our ledger
  forks_decode    tokens/s of all 32
    beside llama.cpp (libllama) with 32 sequences from one: copied (a stream of cells each, as llama-server has by default) and shared
    (kv_unified: one pool of cells), each with windowed caches for windowed layers (llama-server's default) and full ones (ours are full)
  prefix_cold     ms to the first token of a prompt of 2,020 tokens that nobody had before
  prefix_second   the same of another session whose first 2,000 tokens are the same
  prefix_reused   tokens of it that needed no evaluation
    beside llama-server with its prompt cache, default and --swa-full: the second request in the slot of the first, in another one, and
    a third request in a third one (only when others work does it save the first prompt in the memory where other slots find it).
    Ours is another actor of the same owner, for all three

ratio = ours / theirs, taken pair by pair (ours[i] was measured right beside theirs[i]); ours, theirs and ratio are medians.
"""
import statistics
import sys

import rows
from server import Server

PARTS = ("forks", "prefix")
SLOTS = {"same slot": 0, "other slot": 1, "third slot": 2}
CACHES = {"windowed caches": False, "full caches": True}


# --- forks -----------------------------------------------------------------------------------


def share_llama(options, **values) -> dict:
    command = [str(options.ours / "bench_share_llama"), "--model", options.model, "--threads", str(options.threads)]
    return rows.lines_of(options, command + rows.arguments_of(values))[0]


def forks(options, out: rows.Rows) -> None:
    n = options.forks
    past = {"prompt_tokens": rows.size(options, 4000, 512), "made_tokens": rows.size(options, 32, 4), "salt": out.next_salt(1)}
    ours = {mode: rows.engine(options, "forks", repeats=1, sessions=n, fast=mode == "fast", **past) for mode in options.mode}
    theirs = {}
    if options.device == "cpu" and not options.alone:
        for cache, full in CACHES.items():
            alone = share_llama(options, sequences=0, full_windows=full, **past)
            for kind in ("copied", "shared"):
                got = share_llama(options, sequences=n, shared=kind == "shared", full_windows=full, **past)
                theirs[f"{n} sequences in llama.cpp, {kind}, {cache}"] = {
                    "forks_time": [got["fork_us"] / n], "forks_memory": [got["memory_bytes"] - alone["memory_bytes"]],
                    "forks_decode": [got["tokens_per_s"]]}
    for mode in options.mode:
        for name, series in ours[mode].items():
            for against, values in (theirs if name != "forks_own" else {}).items() or [(None, {})]:
                out.add_series(series, values.get(name), against, sessions=n, mode=mode, prompt_tokens=past["prompt_tokens"])


# --- prefixes --------------------------------------------------------------------------------


def asked(server: Server, out: rows.Rows, slot: int, shared: dict, salt: int) -> dict:
    return server.ask(out.setting, clients=1, made_tokens=1, slot=slot, cache=True, salt=salt, **shared)[0]


def served(options, out: rows.Rows, shared: dict, extra: list) -> dict:
    """Cold, then the same beginning again in that slot, then in others."""
    tokens = shared["shared_tokens"] + shared["own_tokens"]
    salts = iter(range(out.next_salt(16), sys.maxsize))
    with Server(options, 3, (tokens + 1 + 255) // 256 * 256, "mapped", extra) as server:
        # Warms, and every slot has had another prompt: one that is named and empty does not look into the common cache.
        for slot in SLOTS.values():
            asked(server, out, slot, {**shared, "shared_salt": next(salts)}, next(salts))
        measured = {**shared, "shared_salt": next(salts)}
        return {kind: asked(server, out, slot, measured, next(salts)) for kind, slot in (("cold", 0), *SLOTS.items())}


def prefix(options, out: rows.Rows) -> None:
    shared = {"shared_tokens": rows.size(options, 2000, 512), "own_tokens": 20}
    ours = {mode: rows.engine(options, "prefix", repeats=1, prompt_tokens=shared["shared_tokens"], own_tokens=shared["own_tokens"],
                              salt=out.next_salt(8), fast=mode == "fast") for mode in options.mode}
    theirs = {}
    if not options.alone:
        for server, extra in (("llama-server", []), ("llama-server --swa-full", ["--swa-full"])):
            theirs[server] = served(options, out, shared, extra)
    for mode in options.mode:
        series = {name: {**one, "ours": [statistics.median(one["ours"])]} for name, one in ours[mode].items()}
        reused = series["prefix_reused"]["ours"][0]
        if not theirs:
            for one in series.values():
                out.add_series(one, mode=mode, **shared)
        for server, got in theirs.items():
            out.add_series(series["prefix_cold"], [got["cold"]["first_token_us"][0] / 1000], server, mode=mode, **shared)
            for slot in SLOTS:
                against = f"{server}, {slot}"
                told = {"mode": mode, "ours_reused": reused, "theirs_reused": got[slot]["cached"][0], **shared}
                out.add_series(series["prefix_second"], [got[slot]["first_token_us"][0] / 1000], against, **told)
                out.add_series(series["prefix_reused"], [got[slot]["cached"][0]], against, mode=mode, **shared)


def main() -> int:
    parser = rows.parser_of("share", __doc__, PARTS, 3)
    parser.add_argument("--forks", type=int, help="how many (default 32)")
    options = rows.parsed(parser)
    options.forks = options.forks or rows.size(options, 32, 3)
    out = rows.Rows(options)
    return rows.measure_parts(options, out, PARTS, {"forks": forks, "prefix": prefix})


if __name__ == "__main__":
    sys.exit(main())
