"""bench/share prints every row: forks beside libllama, which is always there, and prefixes beside llama-server where it is built."""
import benches


def main() -> None:
    forks = benches.rows("share", "forks")
    benches.check_names(forks, {"forks_time": 8, "forks_memory": 8, "forks_own": 2, "forks_decode": 8})
    benches.check(all(row["ours"] > 0 for row in forks if row["name"] != "forks_memory"), "a row without a value")
    copied = [row for row in forks if row["name"] == "forks_memory" and "copied, full" in row["against"]]
    # 3 copies of 512 tokens: no measuring error of a few pages hides them.
    benches.check(all(row["theirs"] > 3 * 512 * row["kv_bytes_per_token"] / 2 for row in copied), f"copies that take no memory: {copied}")
    prefix = benches.rows("share", "prefix", "--alone")
    benches.check_names(prefix, {"prefix_cold": 2, "prefix_second": 2, "prefix_reused": 2})
    benches.check(all(0 <= row["ours"] <= 532 for row in prefix if row["name"] == "prefix_reused"), "more reused than there was")
    folder = benches.theirs()
    if folder is None:
        return
    beside = benches.rows("share", "prefix", "--theirs", folder, "--mode", "exact")
    benches.check_names(beside, {"prefix_cold": 2, "prefix_second": 6, "prefix_reused": 6})
    same = [row["theirs"] for row in beside if row["name"] == "prefix_reused" and "swa-full, same slot" in row["against"]]
    benches.check(same[0] >= 500, f"llama-server found {same} tokens of its own cache")


if __name__ == "__main__":
    main()
