"""bench/engine prints every row, on our side alone, and beside llama.cpp's programs where they are built."""
import benches

PAIRED = {"prefill_64": 1, "prefill_64_chunk": 1, "decode_8": 1, "batch_pp": 2, "batch_tg": 2, "path": 2, "path_first_token": 2}
INSIDE = {"actor_generate": 1, "actor_generate_outside": 1, "actor_forward": 1, "actor_forward_outside": 1, "guest_to_host_enter": 1,
          "guest_to_host_wasi": 1, "host_to_guest": 1, "instance_restore": 1, "empty_turn": 1, "commit_10_pages": 1, "kv_fork_100": 1,
          "kv_thaw_100": 1, "kv_fork_1000": 1, "kv_thaw_1000": 1, "kv_fork_4000": 1, "kv_thaw_4000": 1}


def main() -> None:
    found = benches.rows("engine", "--alone", "--mode", "fast", "--weights", "mapped")
    benches.check_names(found, {**PAIRED, **INSIDE})
    benches.check(all(row["ours"] > 0 for row in found if not row["name"].endswith("_outside")), "a row without a value")
    batches = [(row["sessions"], row["weights"], row["mode"]) for row in found if row["name"] == "batch_tg"]
    benches.check(batches == [(1, "mapped", "fast"), (2, "mapped", "fast")], str(batches))
    others = benches.rows("engine", "batch", "--alone", "--sessions", "3")
    batches = [(row["sessions"], row["weights"], row["mode"]) for row in others if row["name"] == "batch_tg"]
    benches.check(batches == [(3, weights, mode) for weights in ("mapped", "repacked") for mode in ("exact", "fast")], str(batches))
    benches.check(all(row["sessions"] is None for row in found if row["name"] == "empty_turn"), "an empty turn has no sessions")
    folder = benches.theirs()
    if folder is None:
        return
    beside = benches.rows("engine", "speed", "batch", "path", "--theirs", folder, "--mode", "exact", "--weights", "mapped")
    benches.check_names(beside, PAIRED)
    benches.check(all(row["theirs"] > 0 and row["ratio"] > 0 for row in beside), "a row without the other side")


if __name__ == "__main__":
    main()
