"""bench/latency prints every row, with the load at work while turns are taken."""
import benches


def main() -> None:
    found = benches.rows("latency")
    benches.check_names(found, {"turn_no_model": 2, "turn_realtime": 2, "turn_normal": 2})
    for row in found:
        benches.check(0 < row["ours_p50"] <= row["ours_p99"] <= row["ours_max"], f"percentiles: {row}")
        benches.check(0 < row["theirs_p50"] <= row["theirs_p99"] <= row["theirs_max"], f"percentiles: {row}")
        benches.check(row["rounds"] == (1 if row["name"] == "turn_normal" else 4), f"turns: {row}")
        benches.check(row["load_decodes"] == 2 and row["load_texts_per_s"] > 0, f"no load: {row}")


if __name__ == "__main__":
    main()
