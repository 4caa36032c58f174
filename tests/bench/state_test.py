"""bench/state prints every row, beside itself as the other build."""
import json
import sys

import benches

NAMES = ("scattered_turn", "scattered_commit", "scattered_bytes", "scattered_memory", "scattered_first_fork", "scattered_fork", "scattered_fork_memory")


def main() -> None:
    command = [sys.executable, "-B", benches.SOURCE / "bench/state.py", "--ours", benches.BUILD, "--before", benches.BUILD, "--quick", "--json"]
    found = [json.loads(line) for line in benches.run(command).stdout.splitlines()]
    benches.check_names(found, {name: 4 for name in NAMES})
    for row in found:
        for key in ("name", "pages", "ours", "theirs", "unit", "better", "rounds", "turns", "page_bytes"):
            benches.check(key in row, f"a row lacks '{key}': {row}")
        if row["name"] == "scattered_turn":
            benches.check(0 < row["ours"] and 0 < row["ours_first"] and 0 < row["ours_last"] and row["ratio"] > 0, f"no times: {row}")
        if row["name"] == "scattered_bytes":
            # What the guest wrote, and few pages of its stack and data beside them.
            pages = row["ours"] / row["page_bytes"]
            benches.check(row["pages"] * 4096 / row["page_bytes"] <= pages + 1 and pages < row["pages"] + 40, f"pages: {row}")
    benches.run([*command[:3], "--ours", benches.BUILD, "--rounds", "-1"], want=2)


if __name__ == "__main__":
    main()
