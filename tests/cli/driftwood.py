"""Runs the command line program for the tests of its verbs."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BINARY = os.environ.get("DW_TEST_DRIFTWOOD", "")
PROGRAMS = pathlib.Path(os.environ.get("DW_TEST_PROGRAMS", ""))
MODEL = os.environ.get("DW_TEST_MODEL", "")
SKIPPED = 77

# Exit codes, as `driftwood help` lists them.
OK, REFUSED, USAGE, FAILED, CORRUPT, GUEST = range(6)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json(self):
        """The one object, on one line, that standard output must hold."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"{len(lines)} lines instead of one: {self.out!r}"
        return json.loads(lines[0])


class Case(unittest.TestCase):
    """Each test has a folder of its own, with an empty cache in it."""

    cache = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def path(self, name):
        return str(self.folder / name)

    def driftwood(self, *arguments, stdin="", environment=None):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTWOOD_")}
        variables["DRIFTWOOD_CACHE"] = str(self.cache or self.folder / "cache")
        variables.update(environment or {})
        done = subprocess.run([BINARY, *arguments], input=stdin.encode(), capture_output=True, env=variables, timeout=600)
        result = Result(done.returncode, done.stdout.decode(errors="backslashreplace"), done.stderr.decode())
        self.assertNotIn("Sanitizer", result.err)
        self.assertNotIn("runtime error", result.err)
        return result

    def succeed(self, *arguments, **named):
        result = self.driftwood(*arguments, **named)
        self.assertEqual(result.code, OK, result.err)
        return result

    def refuse(self, code, *arguments, **named):
        """Must end with this code and say something; with --json it must be an error object. Returns the result."""
        result = self.driftwood(*arguments, **named)
        self.assertEqual(result.code, code, result.out + result.err)
        self.assertIn("driftwood", result.err)
        if "--json" in arguments:
            self.assertIn("error", result.json())
        return result


def main():
    if not BINARY or not pathlib.Path(BINARY).exists():
        print(f"there is no program at '{BINARY}' to test")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
