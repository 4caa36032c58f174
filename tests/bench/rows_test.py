"""bench/rows.py does the arithmetic for all benchmarks: medians, ratios by pairs, percentiles."""
import sys

import benches

sys.path.insert(0, str(benches.SOURCE / "bench"))
import rows  # noqa: E402


def row_of(ours: list, theirs: list, unit: str = "tokens/s", percentiles: bool = False) -> dict:
    row = {"name": "n", "unit": unit, "better": "higher", "against": "them" if theirs else None, "ours": ours, "theirs": theirs,
           "percentiles": percentiles, "told": {"sessions": 8, "weights": "repacked", "mode": "fast"}, "conditions": {"tokens": 3}}
    return rows.summary(row, {"model": "m"}, [0.0, 0.0])


def ratios_are_of_pairs() -> None:
    # Medians alone would say 2 / 4.
    got = row_of([1, 2, 30], [1, 4, 10])
    benches.check((got["ours"], got["theirs"], got["ratio"], got["ratio_min"], got["ratio_max"]) == (2, 4, 1, 0.5, 3), str(got))
    benches.check((got["sessions"], got["weights"], got["mode"], got["tokens"], got["rounds"], got["model"]) == (8, "repacked", "fast", 3, 3, "m"), str(got))


def one_side_has_no_ratio() -> None:
    got = row_of([1, 2, 30], [])
    benches.check((got["ours"], got["theirs"], got["ratio"]) == (2, None, None), str(got))


def what_is_added_is_of_pairs() -> None:
    got = row_of([10, 21, 33], [9, 19, 30], unit="us/token")
    benches.check(got["added"] == 2, str(got))


def a_zero_beside_gives_no_ratio() -> None:
    got = row_of([5], [0])
    benches.check((got["theirs"], got["ratio"]) == (0, None), str(got))


def percentiles_are_of_single_turns() -> None:
    got = row_of(list(range(1, 201)), [1] * 200, percentiles=True)
    benches.check((got["ours_p50"], got["ours_p99"], got["ours_max"], got["theirs_p99"]) == (100, 198, 200, 1), str(got))
    benches.check("ratio" not in got, str(got))


if __name__ == "__main__":
    for test in (ratios_are_of_pairs, one_side_has_no_ratio, what_is_added_is_of_pairs, a_zero_beside_gives_no_ratio, percentiles_are_of_single_turns):
        test()
