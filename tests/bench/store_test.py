"""bench/store prints every row."""
import json
import sys
import tempfile

import benches


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-B", benches.SOURCE / "bench/store.py", "--ours", benches.BUILD, "--folder", folder, "--quick"]
        found = [json.loads(line) for line in benches.run([*command, "--json"]).stdout.splitlines()]
        benches.check(len(found) == 5, f"rows: {found}")
        for row in found:
            for key in ("name", "callers", "batch", "pages", "ours", "theirs", "ratio", "syncs", "turns_a_group", "unit", "better", "rounds"):
                benches.check(key in row, f"a row lacks '{key}': {row}")
            benches.check(row["name"] == "durable_turn" and row["ours"] > 0 and row["theirs"] > 0 and row["syncs"] > 0, f"no rates: {row}")
        benches.check("no figures" in benches.run(command).stdout, "the table")
        benches.run([*command, "--pages", "99"], want=2)


if __name__ == "__main__":
    main()
