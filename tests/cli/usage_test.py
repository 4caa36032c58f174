"""What somebody meets who does not know the program yet: help, version, wrong command lines."""
import os
import subprocess
import unittest

import driftwood
from driftwood import OK, REFUSED, USAGE

VERBS = ["doctor", "models", "chat", "run", "ask", "freeze", "thaw", "fork", "spawn", "send", "list", "rm", "inspect", "embed", "prove", "demo", "version", "help"]


class Help(driftwood.Case):
    def test_the_overview_names_every_verb_and_every_exit_code(self):
        text = self.succeed("help").out
        for verb in VERBS:
            self.assertRegex(text, rf"(?m)^  {verb} +\S")
        for code in range(6):
            self.assertRegex(text, rf"(?m)^  {code}  \S")

    def test_json_lists_the_same_verbs(self):
        self.assertEqual([verb["name"] for verb in self.succeed("help", "--json").json()["verbs"]], VERBS)

    def test_every_verb_has_help_with_its_options(self):
        for verb in VERBS:
            text = self.succeed(verb, "--help").out
            self.assertTrue(text.startswith(f"usage: driftwood {verb}"), text)
            self.assertIn("--json", text)
            self.assertEqual(text, self.succeed("help", verb).out)
            self.assertEqual(text, self.succeed(verb, "-h").out)

    def test_help_fits_a_terminal_of_a_hundred_columns(self):
        for verb in VERBS:
            text = self.succeed(verb, "--help").out
            body = text.split("\n", 1)[1]
            self.assertLessEqual(max(map(len, body.splitlines())), 120, verb)

    def test_version_is_a_number(self):
        self.assertRegex(self.succeed("version", "--json").json()["version"], r"^\d+\.\d+\.\d+$")
        self.assertTrue(self.succeed("--version").out.startswith("driftwood "))

    def test_output_that_is_not_a_terminal_has_no_colours(self):
        for arguments in (["help"], ["doctor"], ["nonsense"]):
            result = self.driftwood(*arguments)
            self.assertNotIn("\033", result.out + result.err)


class Output(driftwood.Case):
    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_output_that_cannot_be_written_is_told_once_and_no_success(self):
        for arguments in (["version"], ["help"], ["version", "--json"]):
            with self.subTest(arguments=arguments), open("/dev/full", "wb") as full:
                done = subprocess.run([driftwood.BINARY, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=60)
                self.assertEqual(done.returncode, driftwood.FAILED)
                self.assertEqual(done.stderr.decode().count("cannot write to standard output"), 1, done.stderr)


class WrongCommandLines(driftwood.Case):
    def wrong(self, expected, *arguments):
        result = self.refuse(USAGE, *arguments)
        self.assertIn(expected, result.err)
        self.assertIn("--help", result.err)

    def test_no_verb_shows_the_overview_and_is_wrong(self):
        result = self.driftwood()
        self.assertEqual(result.code, USAGE)
        self.assertIn("usage: driftwood VERB", result.out)

    def test_an_unknown_verb_is_named(self):
        self.wrong("melt", "melt")

    def test_an_unknown_option_is_named(self):
        self.wrong("--frobnicate", "doctor", "--frobnicate")
        self.wrong("-x", "doctor", "-x")

    def test_an_option_without_its_value_is_named(self):
        self.wrong("--model needs PATH|NAME", "chat", "--model")

    def test_a_flag_takes_no_value(self):
        self.wrong("--digest takes no value", "thaw", "x.drift", "--digest=yes")

    def test_a_number_must_be_one(self):
        for text in ("many", "-1", "1.5", "", "99999999999999999999999"):
            self.wrong("whole number", "prove", f"--threads={text}")

    def test_embed_takes_texts_and_a_known_pooling(self):
        self.wrong("TEXT...", "embed")
        self.wrong("mean, cls or last", "embed", "--pooling", "max", "a text")

    def test_missing_and_surplus_operands_are_told(self):
        self.wrong("FILE.drift|NAME TEXT", "ask", "only-one")
        self.wrong("one argument too many", "inspect", "a.drift", "b.drift")

    def test_errors_of_the_command_line_are_json_too(self):
        for arguments in (["melt", "--json"], ["ask", "--json"], ["doctor", "--wrong", "--json"]):
            error = self.refuse(USAGE, *arguments).json()["error"]
            self.assertEqual(error["kind"], "usage")
            self.assertEqual(error["status"], "DW_E_INVALID")

    def test_a_bad_log_level_is_refused(self):
        result = self.driftwood("version", environment={"DRIFTWOOD_LOG": "loud"})
        self.assertEqual(result.code, USAGE)
        self.assertIn("loud", result.err)


class WithoutAModel(driftwood.Case):
    def test_chat_says_how_to_get_one(self):
        error = self.refuse(REFUSED, "chat", "--json").json()["error"]
        self.assertEqual(error["status"], "DW_E_NOT_FOUND")
        self.assertIn("./run", error["hint"])
        self.assertIn("--model", error["hint"])

    def test_a_model_that_is_not_there_is_named(self):
        self.assertIn("no-such-model", self.refuse(REFUSED, "chat", "--model", "no-such-model").err)

    def test_models_tells_that_there_is_none(self):
        self.assertEqual(self.succeed("models", "--json").json(), {"models": []})
        self.assertIn("./run", self.succeed("models").out)

    def test_a_file_that_is_no_model_is_not_usable(self):
        (self.folder / "text.gguf").write_text("this is no model" * 100)
        result = self.driftwood("models", self.path("text.gguf"), "--json")
        self.assertEqual(result.code, REFUSED)
        model = result.json()["models"][0]
        self.assertFalse(model["usable"])
        self.assertTrue(model["reason"])

    def test_an_unknown_device_is_refused_with_those_that_exist(self):
        result = self.refuse(REFUSED, "run", "counter", "--device", "abacus", "--message", "get")
        self.assertIn("abacus", result.err)
        self.assertIn("cpu", result.err)


class Doctor(driftwood.Case):
    def test_reports_what_scripts_read(self):
        report = self.succeed("doctor", "--json").json()
        for name in ("devices", "cpus", "memory_bytes", "page_bytes", "dirty_tracking", "wasm", "cache_folder", "models", "programs", "verdict", "advice"):
            self.assertIn(name, report)
        self.assertEqual(report["devices"][0]["name"], "cpu")
        self.assertTrue(report["devices"][0]["can_wrap"])
        self.assertTrue(report["wasm"]["ok"])
        self.assertIn("counter.wasm", report["programs"])

    def test_advises_to_get_a_model_when_there_is_none(self):
        report = self.succeed("doctor", "--json").json()
        self.assertEqual(report["verdict"], "works, with advice")
        self.assertTrue(any("./run" in advice for advice in report["advice"]))

    def test_a_cache_folder_that_cannot_be_made_is_a_failure(self):
        (self.folder / "file").write_text("")
        result = self.driftwood("doctor", "--json", environment={"DRIFTWOOD_CACHE": self.path("file/cache")})
        self.assertEqual(result.code, driftwood.FAILED)
        self.assertEqual(result.json()["verdict"], "broken")


if __name__ == "__main__":
    assert OK == 0
    driftwood.main()
