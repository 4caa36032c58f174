"""Actors in files, with a program that needs no model: freeze, thaw, ask, fork, inspect, and files that are not what they should be."""
import pathlib

import driftwood
from driftwood import CORRUPT, GUEST, REFUSED


class Files(driftwood.Case):
    def setUp(self):
        super().setUp()
        self.file = self.path("c.drift")
        self.succeed("freeze", "counter", self.file, "--message", "add 2")

    def ask(self, text, file=None):
        return self.succeed("ask", file or self.file, text).out.strip()

    def digest(self, file, *messages):
        arguments = [part for message in messages for part in ("--message", message)]
        return self.succeed("thaw", file, "--digest", "--at", "1700000000000000000", "--json", *arguments).json()["digest"]


class RoundTrip(Files):
    def test_an_actor_goes_on_where_it_was_frozen(self):
        self.assertEqual(self.ask("add 5"), "7")
        self.assertEqual(self.ask("add 1"), "8")

    def test_ask_with_dry_run_leaves_the_file_as_it_was(self):
        before = pathlib.Path(self.file).read_bytes()
        self.assertEqual(self.succeed("ask", self.file, "add 5", "--dry-run").out.strip(), "7")
        self.assertEqual(pathlib.Path(self.file).read_bytes(), before)
        self.assertEqual(self.ask("add 1"), "3")

    def test_thaw_leaves_the_file_as_it_was(self):
        before = pathlib.Path(self.file).read_bytes()
        self.succeed("thaw", self.file, "--message", "add 5")
        self.assertEqual(pathlib.Path(self.file).read_bytes(), before)

    def test_a_turn_that_fails_leaves_the_file_as_it_was(self):
        before = pathlib.Path(self.file).read_bytes()
        result = self.refuse(GUEST, "ask", self.file, "trap", "--json")
        self.assertEqual(result.json()["error"]["status"], "DW_E_TRAP")
        self.assertEqual(pathlib.Path(self.file).read_bytes(), before)

    def test_frozen_in_the_middle_equals_never_frozen(self):
        first, last, at = ["add 3", "grow 70", "random"], ["add 4", "time", "get"], "1700000000000000000"
        all_messages = [part for message in first + last for part in ("--message", message)]
        at_rest = [part for message in first for part in ("--message", message)]
        whole = self.succeed("thaw", self.file, "--digest", "--at", at, "--json", *all_messages).json()
        middle = self.path("middle.drift")
        # `ask` once per message is a freeze and a thaw between any two.
        pathlib.Path(middle).write_bytes(pathlib.Path(self.file).read_bytes())
        for n, message in enumerate(first + last):
            self.succeed("ask", middle, message, "--at", str(int(at) + n * 10**9))
        self.assertEqual(self.succeed("thaw", middle, "--digest", "--json").json()["digest"], whole["digest"])
        self.assertNotEqual(self.succeed("thaw", self.file, "--digest", "--at", at, "--json", *at_rest).json()["digest"], whole["digest"])

    def test_thaw_reports_what_scripts_read(self):
        report = self.succeed("thaw", self.file, "--message", "add 1", "--json").json()
        for name in ("open_ms", "verify_ms", "map_ms", "tokens", "tokens_reused", "tokens_recomputed", "tokens_pending", "kv_bytes", "memory_bytes",
                     "verified", "exact", "profile_difference", "turns", "actor", "ready_at_ns"):
            self.assertIn(name, report)
        self.assertTrue(report["verified"])
        self.assertEqual(report["turns"][0]["reply"], "3")
        self.assertNotIn("digest", report)

    def test_an_actor_can_be_renamed_when_thawed(self):
        self.assertEqual(self.succeed("thaw", self.file, "--name", "other", "--json").json()["actor"], "other")


class Forks(Files):
    def test_branches_share_the_past_and_nothing_else(self):
        other = self.path("d.drift")
        self.succeed("fork", self.file, other)
        self.assertEqual(self.ask("add 10"), "12")
        self.assertEqual(self.ask("add 100", other), "102")
        self.assertEqual(self.ask("add 1"), "13")

    def test_a_fork_names_its_parent(self):
        other = self.path("d.drift")
        identity = self.succeed("inspect", self.file, "--json").json()["identity"]
        self.succeed("fork", self.file, other, "--name", "branch")
        report = self.succeed("inspect", other, "--json").json()
        self.assertEqual(report["name"], "branch")
        self.assertEqual(report["parent"], identity)

    def test_a_fork_is_equal_until_it_goes_on(self):
        other = self.path("d.drift")
        self.succeed("fork", self.file, other)
        self.assertEqual(self.digest(self.file), self.digest(other))
        self.assertNotEqual(self.digest(self.file), self.digest(other, "add 1"))


class Inspect(Files):
    def test_reports_what_scripts_read(self):
        report = self.succeed("inspect", self.file, "--verify", "--json").json()
        self.assertEqual(report["name"], "c")
        self.assertEqual(report["turn"], 1)
        self.assertIsNone(report["parent"])
        self.assertTrue(report["verified"])
        self.assertEqual(report["file_bytes"], pathlib.Path(self.file).stat().st_size)
        sections = {section["name"]: section for section in report["sections"]}
        self.assertIn("memory.0", sections)
        self.assertEqual(sections["memory.0"]["bytes"], report["memory_bytes"])

    def test_hashes_are_those_of_the_bytes_at_the_places_named(self):
        import hashlib
        data = pathlib.Path(self.file).read_bytes()
        for section in self.succeed("inspect", self.file, "--json").json()["sections"]:
            piece = data[section["offset"]:section["offset"] + section["bytes"]]
            self.assertEqual(hashlib.sha256(piece).hexdigest(), section["sha256"], section["name"])

    def test_says_that_it_did_not_verify_unless_asked(self):
        self.assertFalse(self.succeed("inspect", self.file, "--json").json()["verified"])

    def test_text_names_identity_and_sections(self):
        report = self.succeed("inspect", self.file, "--json").json()
        text = self.succeed("inspect", self.file).out
        self.assertIn(report["identity"], text)
        self.assertIn("memory.0", text)


class WrongFiles(Files):
    def damage(self, change):
        data = bytearray(pathlib.Path(self.file).read_bytes())
        change(data)
        damaged = self.path("damaged.drift")
        pathlib.Path(damaged).write_bytes(data)
        return damaged

    def section(self, name):
        return next(s for s in self.succeed("inspect", self.file, "--json").json()["sections"] if s["name"] == name)

    def test_a_flipped_bit_is_refused_and_the_section_named(self):
        for name in ("memory.0", "mailbox", "actor"):
            at = self.section(name)["offset"] + 100

            def flip(data, at=at):
                data[at] ^= 1

            damaged = self.damage(flip)
            for arguments in (["thaw", damaged], ["ask", damaged, "get"], ["fork", damaged, self.path("new.drift")], ["inspect", damaged, "--verify"]):
                result = self.refuse(CORRUPT, *arguments, "--json")
                self.assertIn(name, result.json()["error"]["text"])
        self.assertFalse(pathlib.Path(self.path("new.drift")).exists())

    def test_a_changed_header_is_refused(self):
        def rename(data):
            at = data.index(b'"actor.name"')
            name = data.index(b'"c"', at)
            data[name + 1] = ord("d")

        self.refuse(CORRUPT, "inspect", self.damage(rename), "--json")

    def test_a_truncated_file_is_refused(self):
        for size in (0, 4, 100, 16384, 20000):
            def cut(data, size=size):
                del data[size:]

            self.refuse(CORRUPT, "thaw", self.damage(cut), "--json")

    def test_another_kind_of_file_is_refused(self):
        pathlib.Path(self.path("text.drift")).write_text("Dear diary, " * 5000)
        self.refuse(CORRUPT, "inspect", self.path("text.drift"), "--json")

    def test_a_file_that_is_not_there_comes_with_a_hint(self):
        error = self.refuse(REFUSED, "thaw", self.path("nothing.drift"), "--json").json()["error"]
        self.assertEqual(error["status"], "DW_E_NOT_FOUND")
        self.assertIn("nothing.drift", error["text"])
        self.assertIn("freeze", error["hint"])

    def test_a_checkpoint_brings_its_program_along(self):
        elsewhere = {"DRIFTWOOD_CACHE": self.path("other-cache")}
        report = self.succeed("thaw", self.file, "--message", "get", "--json", environment=elsewhere).json()
        self.assertIn("sum=2 ", report["turns"][0]["reply"])
        sections = {section["name"]: section for section in self.succeed("inspect", self.file, "--json").json()["sections"]}
        self.assertGreater(sections["program"]["bytes"], 16384)

    def test_a_program_that_was_left_out_can_be_named(self):
        elsewhere = {"DRIFTWOOD_CACHE": self.path("other-cache")}
        file = self.path("without.drift")
        self.succeed("freeze", "counter", file, "--message", "add 2", "--no-program")
        self.succeed("thaw", file, "--program", "counter", environment=elsewhere)
        other = {"DRIFTWOOD_CACHE": self.path("third-cache")}
        self.refuse(REFUSED, "thaw", file, "--program", "branch", environment=other)

    def test_a_program_that_is_not_known_here_is_told(self):
        file = self.path("without.drift")
        self.succeed("freeze", "counter", file, "--message", "add 2", "--no-program")
        error = self.refuse(REFUSED, "thaw", file, "--json", environment={"DRIFTWOOD_CACHE": self.path("other-cache")}).json()["error"]
        self.assertEqual(error["status"], "DW_E_NOT_FOUND")
        self.assertIn("program", error["text"])

    def test_a_folder_that_is_not_there_cannot_be_frozen_into(self):
        result = self.driftwood("freeze", "counter", self.path("no/such/folder/x.drift"), "--json")
        self.assertIn(result.code, (REFUSED, driftwood.FAILED))
        self.assertIn("error", result.json())


if __name__ == "__main__":
    driftwood.main()
