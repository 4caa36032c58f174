"""bench/engine's second half: runs both sides in turn, and says how they compare. Python's standard library only.

Rows, with --json one object a line (bench/rows.py says what is in it):
  prefill_512, decode_128     tokens/s of one session, native loop, beside llama-bench with its defaults (-b 2048 -ub 512)
  prefill_512_chunk           the same prefill, llama-bench cut into our chunk (-ub 256): the same shapes on both sides
  batch_pp, batch_tg          tokens/s of all of 1, 8, 32 sessions at once through the engine (128 tokens of prompt each, then 64 made),
                              beside llama-batched-bench. Theirs are given their tokens; ours draw them greedily, and so do more
  path, path_first_token      tokens/s and p50 of the first token of 1, 8, 32 actors that answer a prompt with sampled tokens and stream
                              them, beside as many clients of llama-server with the same prompts and sampling
  actor_generate, _forward    us per token through an actor beside the native loop, same process and tokens; GENERATE, and a loop of the
                              guest's own. *_outside is the part outside of the model's steps; its `added` is what the actor costs
  guest_to_host_*, host_to_guest, instance_restore   beside plain Wasmtime
  empty_turn, commit_10_pages                        nothing to stand beside
  kv_fork_N, kv_thaw_N        maps of N tokens' KV rows, beside a copy of them

ratio = ours / theirs, taken pair by pair (ours[i] was measured right beside theirs[i]); ours, theirs, ratio and added are medians.
"""
import statistics
import sys

import rows
from server import Server

PARTS = ("speed", "batch", "path", "actor", "calls", "kv")
REPEATS = 2  # values of one process; a round takes their median
TRIES = 5


def of_round(series: dict) -> list:
    return [statistics.median(series["ours"])]


def context(tokens: int) -> int:
    """As ours rounds it (bench_context)."""
    return (tokens + 255) // 256 * 256


# --- one session -----------------------------------------------------------------------------


def llama_bench(options, micro_batch: int, prompt: int, made: int, weights: str) -> dict:
    """Median tokens/s by 'prefill' and 'decode'."""
    command = [str(options.theirs / "llama-bench"), "-m", options.model, "-p", str(prompt), "-n", str(made), "-ub", str(micro_batch),
               "-r", str(REPEATS), "-t", str(options.threads), "-fa", "on", "-lm", "mmap", "--repack", str(int(weights == "repacked")),
               "-o", "jsonl"]
    return {"prefill" if test["n_prompt"] else "decode": [statistics.median(test["samples_ts"])]
            for test in rows.lines_of(options, command + rows.llama_device(options))}


def speed(options, out: rows.Rows) -> None:
    """Process by process in turn, each pair with its own ratio: a machine that others use drifts within minutes."""
    prompt, made = rows.size(options, 512, 64), rows.size(options, 128, 8)
    for weights in options.weights:
        ours = rows.engine(options, "speed", repeats=REPEATS, prompt_tokens=prompt, made_tokens=made, repack=weights == "repacked")
        prefill, decode = ours[f"prefill_{prompt}"], ours[f"decode_{made}"]
        chunk = prefill["conditions"]["chunk_tokens"]
        theirs = {} if options.alone else llama_bench(options, 512, prompt, made, weights)
        same_chunk = {} if options.alone else llama_bench(options, chunk, prompt, 0, weights)
        repack = f"--repack {int(weights == 'repacked')}"
        defaults = f"llama-bench -b 2048 -ub 512 (its defaults) -fa on {repack}"
        for series, name, other, against in (
                (prefill, prefill["name"], theirs.get("prefill"), defaults),
                (prefill, prefill["name"] + "_chunk", same_chunk.get("prefill"), f"llama-bench -b 2048 -ub {chunk} -fa on {repack}"),
                (decode, decode["name"], theirs.get("decode"), defaults)):
            out.add_series({**series, "ours": of_round(series)}, other, against, name=name, weights=weights, repeats_in_a_round=REPEATS)


# --- many sessions ---------------------------------------------------------------------------


def batched_bench(options, sessions: int, prompt: int, made: int, weights: str) -> dict:
    command = [str(options.theirs / "llama-batched-bench"), "-c", str(sessions * context(prompt + 1 + made)), "-npp", str(prompt),
               "-ntg", str(made), "-npl", f"{sessions},1", "--output-format", "jsonl"] + rows.llama_common(options, weights)
    # It prints through a thread of its log's, and may end before that thread has printed the last result. So there is one more behind it
    # that nobody needs; and on a busy machine even that is not always enough.
    for _ in range(TRIES):
        done = rows.lines_of(options, command)
        if done:
            return {"batch_pp": [done[0]["speed_pp"]], "batch_tg": [done[0]["speed_tg"]]}
    sys.exit(f"bench/engine: {' '.join(command)} printed nothing, {TRIES} times")


def batch(options, out: rows.Rows) -> None:
    prompt, made = rows.size(options, 128, 64), rows.size(options, 64, 8)
    for weights in options.weights:
        for sessions in options.sessions:
            theirs = {} if options.alone else batched_bench(options, sessions, prompt, made, weights)
            against = f"llama-batched-bench -npp {prompt} -ntg {made} -npl {sessions} -b 2048 -ub 512 -fa on"
            for mode in options.mode:
                # One value a process on both sides: llama-batched-bench knows no repeats.
                ours = rows.engine(options, "batch", repeats=1, sessions=sessions, prompt_tokens=prompt, made_tokens=made,
                                   fast=mode == "fast", repack=weights == "repacked")
                for name in ("batch_pp", "batch_tg"):
                    out.add_series(ours[name], theirs.get(name), against, sessions=sessions, weights=weights, mode=mode)


def served(options, out: rows.Rows, sessions: int, prompt: int, made: int, weights: str, salt: int) -> dict:
    """Medians of what llama-server gives as many clients."""
    # Every prompt is new: no cache can help, so none is kept.
    with Server(options, sessions, context(prompt + made), weights, ["--cache-ram", "0"]) as server:
        done = server.ask(out.setting, clients=sessions, repeats=REPEATS, own_tokens=prompt, made_tokens=made, salt=salt, warm=True, cache=False)
    return {"path": [statistics.median(sum(one["made"]) / one["us"] * 1e6 for one in done)],
            "path_first_token": [statistics.median(statistics.median(one["first_token_us"]) / 1000 for one in done)],
            "client_cpu_share": max(one["client_cpu_us"] / one["us"] for one in done)}


def path(options, out: rows.Rows) -> None:
    prompt, made = rows.size(options, 128, 64), rows.size(options, 64, 8)
    for weights in options.weights:
        for sessions in options.sessions:
            salt = out.next_salt(sessions * (REPEATS + 1))
            theirs = {} if options.alone else served(options, out, sessions, prompt, made, weights, salt)
            against = f"llama-server -np {sessions} --cont-batching, as many clients on 127.0.0.1, cache_prompt false"
            for mode in options.mode:
                ours = rows.engine(options, "path", repeats=REPEATS, sessions=sessions, prompt_tokens=prompt, made_tokens=made, salt=salt,
                                   fast=mode == "fast", repack=weights == "repacked")
                for name in ("path", "path_first_token"):
                    out.add_series({**ours[name], "ours": of_round(ours[name])}, theirs.get(name), against, sessions=sessions, weights=weights,
                                   mode=mode, repeats_in_a_round=REPEATS, client_cpu_share=rows.shown(theirs.get("client_cpu_share")),
                                   sampling="temperature 0.8, top_k 40, top_p 0.95, min_p 0.05")


# --- the rest: both sides in one process -----------------------------------------------------


def inside(part: str, **told):
    def measure(options, out: rows.Rows) -> None:
        for series in rows.engine(options, part, repeats=options.rounds).values():
            out.add_series(series, **told)
    return measure


def main() -> int:
    parser = rows.parser_of("engine", __doc__, PARTS, 5)
    parser.add_argument("--sessions", type=rows.numbers, help="for batch and path (default 1,8,32)")
    parser.add_argument("--weights", type=rows.words_of(rows.WEIGHTS), default=list(rows.WEIGHTS), help="for speed, batch and path (default: mapped,repacked)")
    options = rows.parsed(parser)
    options.sessions = options.sessions or rows.size(options, [1, 8, 32], [1, 2])
    out = rows.Rows(options)
    in_rounds = {"speed": speed, "batch": batch, "path": path}
    at_once = {"actor": inside("actor"), "calls": inside("calls", sessions=None, weights=None, mode=None), "kv": inside("kv")}
    return rows.measure_parts(options, out, PARTS, in_rounds, at_once)


if __name__ == "__main__":
    sys.exit(main())
