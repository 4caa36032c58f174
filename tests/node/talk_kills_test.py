"""A conversation in a node, each turn in a process that is killed at random and asked again: talk_kills_test.py TALKER

The oracle is this script: turn n is the answer to step n, and in the end memory, KV rows and tokens are those of an
actor that had the same messages in one process. DW_TEST_KILLS says how many kills, DW_TEST_SEED repeats a run.
"""
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

KILLS = int(os.environ.get("DW_TEST_KILLS", "16"))
STEPS_MIN = 24
TALKER = sys.argv[1]


def run(*arguments, kill_after=None):
    """The line that it printed, or None where it was killed before that."""
    process = subprocess.Popen([TALKER, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
    out, err = (text.decode() for text in process.communicate())
    killed = process.returncode == -signal.SIGKILL
    if "Sanitizer" in err or not killed and process.returncode != 0:
        sys.exit(f"talker {arguments} ended with {process.returncode}:\n{err}")
    return (out.strip() if out.endswith("\n") else None), killed


def main():
    seed = int(os.environ.get("DW_TEST_SEED", time.time_ns() % 2**32))
    print(f"seed {seed} (DW_TEST_SEED repeats it)")
    chance = random.Random(seed)
    kills = unseen = step = 0
    span = 0.5
    with tempfile.TemporaryDirectory() as folder:
        assert run(folder, "spawn") == ("ok 0", False)
        while kills < KILLS or step < STEPS_MIN:
            line = None
            while line is None:
                begin = time.monotonic()
                wants_kill = kills < KILLS and chance.random() < 0.7
                line, killed = run(folder, step, kill_after=chance.uniform(0, 1.1 * span) if wants_kill else None)
                kills += killed
                unseen += line is None
                if not killed:
                    span = 0.5 * span + 0.5 * (time.monotonic() - begin)
            assert line == f"ok {step + 1}", f"step {step}: {line}"
            step += 1
        here, twin = run(folder, "digest")[0], run("-", step)[0]
    assert hashlib.sha256(b"").hexdigest() != twin.split()[1], "there was no conversation"
    print(f"{kills} kills, {unseen} before an answer, {step} turns")
    if here != twin:
        sys.exit(f"in the node  {here}\nin memory    {twin}")


main()
