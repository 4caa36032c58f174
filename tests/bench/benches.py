"""What the tests of the benchmarks have in common: the built programs, a small model, and a script's rows."""
import json
import os
import pathlib
import subprocess
import sys

SOURCE = pathlib.Path(os.environ["DW_TEST_SOURCE"])
BUILD = pathlib.Path(os.environ["DW_TEST_BUILD"])


def run(command: list, want: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != want:
        sys.exit(f"{command} ended with {done.returncode}, not {want}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done


def model() -> str:
    return run([os.environ["DW_TEST_MAKE_MODEL"]]).stdout.strip()


def theirs():
    """The folder of llama.cpp's programs, or None where they are not built."""
    paths = dict(line.split("=", 1) for line in run([SOURCE / "deps/build.sh", "paths"]).stdout.splitlines())
    folder = pathlib.Path(paths["BENCH_PREFIX"]) / "bin"
    return folder if folder.is_dir() else None


def rows(script: str, *arguments) -> list:
    """Rows of the script's smallest run."""
    command = [sys.executable, "-B", SOURCE / f"bench/{script}.py", "--ours", BUILD, "--model", model(), "--threads", 2, "--quick", *arguments]
    done = [json.loads(line) for line in run([*command, "--json"]).stdout.splitlines()]
    for row in done:
        for key in ("name", "unit", "better", "ours", "theirs", "sessions", "weights", "mode", "rounds", "model", "processor", "threads"):
            check(key in row, f"a row of {script} lacks '{key}': {row}")
        check(row["better"] in ("higher", "lower"), f"better: {row}")
    return done


def check(true: bool, what: str) -> None:
    if not true:
        sys.exit(what)


def check_names(found: list, wanted: dict) -> None:
    """wanted: name to number of rows."""
    counted = {name: sum(row["name"] == name for row in found) for name in {row["name"] for row in found}}
    check(counted == wanted, f"rows by name: {counted}, not {wanted}")
