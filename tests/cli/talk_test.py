"""What a program says, and what becomes of it: text that it prints, its replies, its last words, and an interactive `run` that goes on."""
import os
import pty
import subprocess

import driftwood
from driftwood import GUEST, OK, REFUSED

PANIC = "program: thread 'main' panicked at src/lib.rs:7:5:\nprogram: index out of bounds: the len is 3\n"


class Talk(driftwood.Case):
    def setUp(self):
        super().setUp()
        self.talker = str(driftwood.PROGRAMS / "cli_talker.wasm")

    def messages(self, *texts):
        return ["run", self.talker] + [part for text in texts for part in ("--message", text)]


class Replies(Talk):
    def test_a_reply_is_shown_behind_what_was_printed(self):
        self.assertEqual(self.succeed(*self.messages("print", "hello")).out, "printed\nturn 1\nturn 2\n")

    def test_a_reply_that_repeats_what_was_printed_is_shown_once(self):
        self.assertEqual(self.succeed(*self.messages("print the same", "hello")).out, "turn 1\nturn 2\n")

    def test_json_has_the_reply_of_a_program_that_prints(self):
        turns = self.succeed(*self.messages("print"), "--json").json()["turns"]
        self.assertEqual(turns[0]["reply"], "turn 1")

    def test_ask_shows_the_reply_of_a_program_that_prints(self):
        file = self.path("t.drift")
        self.succeed("freeze", self.talker, file)
        self.assertEqual(self.succeed("ask", file, "print").out, "printed\nturn 1\n")


class LastWords(Talk):
    def test_what_a_program_wrote_before_it_trapped_comes_with_the_trap_in_whole_lines(self):
        result = self.refuse(GUEST, *self.messages("panic"))
        self.assertIn(PANIC, result.err)
        self.assertLess(result.err.index("panicked"), result.err.index("the guest trapped"))

    def test_of_many_lines_the_last_eight_come(self):
        lines = [line for line in self.refuse(GUEST, *self.messages("many")).err.splitlines() if line.startswith("program: ")]
        self.assertEqual(lines, [f"program: line {i}" for i in range(13, 21)])

    def test_they_cannot_drive_the_terminal(self):
        self.assertIn("program: \\x1b[2Jgone\n", self.refuse(GUEST, *self.messages("control")).err)

    def test_they_come_with_an_exit_and_with_a_refusal_too(self):
        self.assertIn("program: leaving\n", self.refuse(GUEST, *self.messages("exit")).err)
        result = self.refuse(REFUSED, *self.messages("refuse"))
        self.assertIn("program: not today\n", result.err)
        self.assertIn("DW_E_DENIED", result.err)

    def test_they_come_with_a_turn_that_takes_too_long(self):
        self.assertIn("program: wait\n", self.refuse(REFUSED, *self.messages("hang"), "--turn-limit", "1").err)

    def test_they_are_not_those_of_a_turn_before(self):
        self.assertNotIn("all is well", self.refuse(GUEST, *self.messages("complain", "panic")).err)

    def test_ask_shows_them_and_keeps_the_file(self):
        file = self.path("t.drift")
        self.succeed("freeze", self.talker, file, "--message", "hello")
        self.assertIn(PANIC, self.refuse(GUEST, "ask", file, "panic").err)
        self.assertEqual(self.succeed("ask", file, "hello").out, "turn 2\n")

    def test_a_turn_that_ends_well_says_nothing_unless_logs_are_asked_for(self):
        self.assertEqual(self.succeed(*self.messages("complain")).err, "")
        self.assertIn("program: all is well\n", self.succeed(*self.messages("complain"), environment={"DRIFTWOOD_LOG": "info"}).err)

    def test_with_json_they_are_on_standard_error_and_the_turns_before_in_the_object(self):
        result = self.refuse(GUEST, *self.messages("hello", "panic"), "--json")
        self.assertIn(PANIC, result.err)
        self.assertEqual([turn["reply"] for turn in result.json()["turns"]], ["turn 1"])


class Interactive(Talk):
    """With a terminal as standard input."""

    def converse(self, *lines):
        control, terminal = pty.openpty()
        os.write(control, "".join(line + "\n" for line in lines).encode() + b"\x04")
        variables = {**os.environ, "DRIFTWOOD_CACHE": self.path("cache")}
        done = subprocess.run([driftwood.BINARY, "run", self.talker], stdin=terminal, capture_output=True, env=variables, timeout=600)
        os.close(terminal)
        os.close(control)
        return driftwood.Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def test_no_way_in_which_a_turn_fails_ends_it_and_none_leaves_anything_behind(self):
        result = self.converse("hello", "panic", "exit", "refuse", "control", "hello")
        self.assertEqual(result.code, OK, result.err)
        replies = [line.removeprefix("message> ") for line in result.out.splitlines() if "turn " in line and "gave" not in line]
        self.assertEqual(replies, ["turn 1", "turn 2"])
        for reason in ("the guest trapped", "exit code 3", "DW_E_DENIED"):
            self.assertIn(reason, result.out)
        for words in (PANIC, "program: leaving\n", "program: not today\n"):
            self.assertIn(words, result.err)


if __name__ == "__main__":
    driftwood.main()
