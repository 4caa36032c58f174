"""`driftwood run`: actors, commands, and programs that are neither."""
import pathlib

import driftwood
from driftwood import CORRUPT, GUEST, OK, REFUSED


class Actors(driftwood.Case):
    def test_messages_are_handled_in_order(self):
        self.assertEqual(self.succeed("run", "counter", "--message", "add 2", "--message", "add 3").out, "2\n5\n")

    def test_lines_of_standard_input_are_messages(self):
        self.assertEqual(self.succeed("run", "counter", stdin="add 2\nadd 40").out, "2\n42\n")

    def test_an_empty_line_is_a_message_too(self):
        turns = self.succeed("run", "counter", "--json", stdin="\nadd 1\n").json()["turns"]
        self.assertEqual([turn["message"] for turn in turns], ["", "add 1"])

    def test_json_has_every_turn_and_nothing_else_is_printed(self):
        report = self.succeed("run", "counter", "--message", "add 2", "--message", "add 3", "--json").json()
        self.assertEqual([turn["reply"] for turn in report["turns"]], ["2", "5"])
        self.assertEqual([turn["turn"] for turn in report["turns"]], [1, 2])
        self.assertIsNone(report["frozen"])

    def test_a_path_works_as_well_as_a_name(self):
        self.assertEqual(self.succeed("run", str(driftwood.PROGRAMS / "counter.wasm"), "--message", "add 2").out, "2\n")

    def test_freeze_writes_a_checkpoint_at_the_end(self):
        file = self.path("c.drift")
        self.succeed("run", "counter", "--message", "add 2", "--freeze", file)
        self.assertEqual(self.succeed("ask", file, "add 1").out, "3\n")

    def test_a_trap_ends_with_its_own_exit_code(self):
        result = self.refuse(GUEST, "run", "counter", "--message", "trap", "--json")
        self.assertEqual(result.json()["error"]["status"], "DW_E_TRAP")

    def test_time_is_what_at_says(self):
        first = self.succeed("run", "counter", "--at", "1700000000000000000", "--message", "time", "--message", "time").out.split()
        second = self.succeed("run", "counter", "--at", "1700000000000000000", "--message", "time", "--message", "time").out.split()
        self.assertEqual(first, second)
        self.assertEqual(int(first[1]) - int(first[0]), 10**9)


class Commands(driftwood.Case):
    def setUp(self):
        super().setUp()
        self.tool = str(driftwood.PROGRAMS / "cli_tool.wasm")

    def test_streams_arguments_and_exit_code_pass_through(self):
        result = self.driftwood("run", self.tool, "7", "two", stdin="hello\nworld")
        self.assertEqual(result.code, 7)
        self.assertEqual(result.out, "argument 7\nargument two\nHELLO\nWORLD")
        self.assertIn("tool: done", result.err)

    def test_arguments_behind_two_dashes_are_the_programs(self):
        self.assertIn("argument --json", self.succeed("run", self.tool, "--", "0", "--json").out)

    def test_json_holds_output_and_exit_code(self):
        result = self.driftwood("run", self.tool, "3", "--json", stdin="a\n")
        self.assertEqual(result.code, 3)
        self.assertEqual(result.json(), {"exit_code": 3, "output": "argument 3\nA\n"})


class Linking(driftwood.Case):
    """Programs whose linking makes them fragile; the modules are those of tests/wasm/advice_test.c."""

    def test_a_stack_that_can_overflow_into_the_data_is_told_each_time_and_harms_nothing(self):
        program = str(driftwood.PROGRAMS / "wasm_frames_last.wasm")
        for _ in range(2):
            result = self.succeed("run", program, "--message", "a", "--json")
            self.assertEqual(result.err.count("driftwood: note: "), 1)
            self.assertIn("-Wl,--stack-first", result.err)
            self.assertEqual(len(result.json()["turns"]), 1)

    def test_a_note_comes_when_an_actor_is_frozen_too(self):
        result = self.succeed("freeze", str(driftwood.PROGRAMS / "wasm_frames_last.wasm"), self.path("f.drift"))
        self.assertIn("-Wl,--stack-first", result.err)

    def test_a_program_that_is_linked_well_gets_no_note(self):
        self.assertNotIn("note", self.succeed("run", str(driftwood.PROGRAMS / "wasm_frames_first.wasm"), "--message", "a").err)

    def test_constructors_that_would_run_with_each_message_are_refused_with_the_mend(self):
        result = self.refuse(REFUSED, "run", str(driftwood.PROGRAMS / "wasm_wrapped.wasm"), "--message", "a", "--json")
        self.assertIn("-mexec-model=reactor", result.json()["error"]["text"])


class Others(driftwood.Case):
    def test_a_program_without_an_entry_is_refused(self):
        result = self.refuse(REFUSED, "run", str(driftwood.PROGRAMS / "cli_mute.wasm"), "--json")
        self.assertIn("driftwood_receive", result.json()["error"]["text"])

    def test_a_file_that_is_no_program_is_refused(self):
        pathlib.Path(self.path("text.wasm")).write_text("not a program")
        result = self.driftwood("run", self.path("text.wasm"), "--json")
        self.assertIn(result.code, (REFUSED, CORRUPT))
        self.assertIn("error", result.json())

    def test_a_program_that_is_not_there_comes_with_a_hint(self):
        error = self.refuse(REFUSED, "run", "no-such-program", "--json").json()["error"]
        self.assertIn("no-such-program", error["text"])
        self.assertIn("doctor", error["hint"])


if __name__ == "__main__":
    assert OK == 0
    driftwood.main()
