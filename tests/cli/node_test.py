"""`driftwood spawn`, `send`, `ask`, `list`, `inspect` and `rm` of a node, across processes, and killed at any moment.

The oracle of the kills is this script: it knows which answers it was given. DW_TEST_KILLS says how many kills a test
makes.
"""
import json
import os
import random
import signal
import subprocess
import time
import unittest

import driftwood
from driftwood import GUEST, OK, REFUSED, USAGE

KILLS = int(os.environ.get("DW_TEST_KILLS", "24"))


class Node(driftwood.Case):
    def setUp(self):
        super().setUp()
        self.node = self.path("node")

    def driftwood(self, *arguments, **named):
        named.setdefault("environment", {"DRIFTWOOD_MODEL": "none"})
        return super().driftwood(*arguments, **named)

    def spawn(self, *arguments):
        return self.succeed("spawn", *arguments, "--in", self.node)

    def ask(self, *arguments):
        return self.succeed("ask", *arguments, "--in", self.node).out

    def look(self, name, *arguments):
        return self.succeed("inspect", name, "--in", self.node, "--json", *arguments).json()

    def start(self, *arguments):
        variables = {**os.environ, "DRIFTWOOD_CACHE": str(self.folder / "cache"), "DRIFTWOOD_MODEL": "none"}
        process = subprocess.Popen([driftwood.BINARY, *arguments], env=variables, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        return process

    def actors(self):
        return self.succeed("list", "--json", "--in", self.node).json()["actors"]


class Actors(Node):
    def test_an_actor_goes_on_where_the_last_process_left_it(self):
        self.spawn("c", "counter", "add 1")
        self.assertEqual([self.ask("c", "add 2") for _ in range(3)], ["3\n", "5\n", "7\n"])

    @unittest.skipUnless(driftwood.MODEL, "there is no model")
    def test_a_conversation_goes_on_where_the_last_process_left_it(self):
        model = ["--model", driftwood.MODEL]
        self.spawn("talk", "chat", "What is the largest ocean?", *model)
        before = self.look("talk")["sessions"][0]
        self.assertGreater(before["rows"], 0)
        turn = json.loads(self.ask("talk", "And the smallest?", "--json", *model))["turn"]
        after = self.look("talk")["sessions"][0]
        self.assertGreater(after["tokens"], before["tokens"])
        # Nothing was read again but, perhaps, the last row.
        self.assertLess(turn["tokens_evaluated"], after["tokens"] - before["rows"] + 2)

    def test_list_tells_turns_and_what_waits(self):
        self.assertEqual(self.spawn("a", "counter", "add 1", "--json").json()["turn"]["reply"], "1")
        self.spawn("b/1", "counter")
        sent = self.succeed("send", "b/1", "add 4", "--leave", "--in", self.node, "--json").json()
        self.assertEqual((sent["number"], sent["handled"]), (1, 0))
        rows = [(row["name"], row["turn"], row["waiting"]) for row in self.actors()]
        self.assertEqual(rows, [("a", 1, 0), ("b/1", 0, 1)])
        self.assertEqual(self.ask("b/1", "add 1"), "5\n")

    def test_what_is_sent_is_handled_and_a_key_is_one_message(self):
        self.spawn("c", "counter")
        for known in (False, True):
            sent = self.succeed("send", "c", "add 4", "--key", "k", "--in", self.node, "--json").json()
            self.assertEqual((sent["number"], sent["known"]), (1, known))
        for _ in range(2):
            self.assertEqual(self.ask("c", "add 3", "--key", "q"), "7\n")
        self.assertIn("another message", self.refuse(REFUSED, "ask", "c", "add 9", "--key", "q", "--in", self.node).err)
        self.assertEqual(self.look("c")["turn"], 2)

    def test_a_trap_ends_with_its_own_exit_code_and_changes_nothing(self):
        self.spawn("c", "counter", "add 1")
        for _ in range(2):
            result = self.refuse(GUEST, "ask", "c", "trap", "--key", "t", "--in", self.node, "--json")
            self.assertEqual(result.json()["error"]["status"], "DW_E_TRAP")
        self.assertEqual(self.ask("c", "add 1"), "2\n")

    def test_a_removed_actor_is_gone(self):
        self.spawn("c", "counter", "add 1")
        self.succeed("rm", "c", "--in", self.node)
        self.assertEqual(self.actors(), [])
        self.refuse(REFUSED, "ask", "c", "add 1", "--in", self.node)
        self.refuse(REFUSED, "rm", "c", "--in", self.node)

    def test_what_cannot_be_is_refused_with_a_sentence(self):
        self.assertIn("there is no node", self.refuse(REFUSED, "list", "--in", self.node).err)
        self.refuse(REFUSED, "list", "--in", str(self.folder))
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), [])
        self.assertIn("--in", self.refuse(USAGE, "list").err)
        self.assertIn("--in", self.refuse(USAGE, "ask", "c", "x", "--key", "k").err)
        self.spawn("c", "counter")
        self.assertIn("already", self.refuse(REFUSED, "spawn", "c", "counter", "--in", self.node).err)
        self.assertIn("no actor", self.refuse(REFUSED, "ask", "d", "x", "--in", self.node).err)
        self.assertIn("..", self.refuse(REFUSED, "spawn", "../d", "counter", "--in", self.node).err)
        tool = str(driftwood.PROGRAMS / "cli_tool.wasm")
        self.assertIn("driftwood_receive", self.refuse(REFUSED, "spawn", "d", tool, "--in", self.node).err)
        self.assertEqual(len(self.actors()), 1)

    def test_a_node_has_one_owner_and_others_wait(self):
        self.spawn("c", "counter")
        loop = str(driftwood.PROGRAMS / "cli_loop.wasm")
        self.spawn("forever", loop)
        owner = self.start("ask", "forever", "x", "--turn-limit", "0", "--in", self.node)
        while (refused := self.driftwood("list", "--in", self.node, "--wait", "0")).code == OK:
            time.sleep(0.05)
        self.assertEqual(refused.code, REFUSED)
        self.assertIn("another driftwood has had", refused.err)
        waiting = self.start("ask", "c", "add 1", "--in", self.node)
        owner.kill()
        owner.communicate()
        self.assertEqual(waiting.communicate(timeout=300)[0], b"1\n")


class Kills(Node):
    """A verb is killed at a random moment and given again. What it had said before counts."""

    def setUp(self):
        super().setUp()
        seed = int(os.environ.get("DW_TEST_SEED", time.time_ns() % 2**32))
        print(f"seed {seed} (DW_TEST_SEED repeats it)")
        self.random = random.Random(seed)
        self.kills = 0
        self.span = 0.2

    def once(self, *arguments):
        """What the verb said, or None where it was killed before it had said all."""
        begin = time.monotonic()
        process = self.start(*arguments, "--in", self.node, "--json")
        try:
            process.wait(self.random.uniform(0, 1.2 * self.span))
        except subprocess.TimeoutExpired:
            process.kill()
        out, err = process.communicate()
        self.assertNotIn(b"Sanitizer", err)
        if process.returncode == -signal.SIGKILL:
            self.kills += 1
            return json.loads(out) if out.endswith(b"}\n") else None
        self.assertEqual(process.returncode, OK, err)
        self.span = 0.5 * self.span + 0.5 * (time.monotonic() - begin)
        return json.loads(out)

    def test_no_turn_is_lost_and_none_is_done_twice(self):
        self.spawn("c", "counter")
        n = remembered = 0
        while self.kills < KILLS or n < 10:
            n += 1
            answer = None
            while answer is None:
                answer = self.once("ask", "c", "add 1", "--key", f"k{n}")
            self.assertEqual(answer["turn"]["reply"], str(n))
            self.assertEqual(answer["turn"]["turn"], n)
            remembered += answer["known"]
        print(f"{self.kills} kills, {n} turns, {remembered} of them killed between disk and answer")
        here = self.look("c", "--verify", "--digest")
        self.assertEqual((here["turn"], here["waiting"]), (n, 0))
        self.assertEqual(here["digest"], self.in_memory(n))

    def in_memory(self, n):
        """The digest of a counter that had the same messages in one process."""
        file = self.path("twin.drift")
        self.succeed("run", "counter", "--freeze", file, stdin="add 1\n" * n)
        return self.succeed("thaw", file, "--digest", "--json").json()["digest"]

    def test_without_a_key_the_actor_is_its_last_answer_or_the_one_behind_it(self):
        self.spawn("c", "counter")
        count = 0
        while self.kills < KILLS // 2:
            answer = self.once("ask", "c", "add 1")
            if answer is not None:
                count = int(answer["turn"]["reply"])
                continue
            turn = self.look("c")["turn"]
            self.assertIn(turn, (count, count + 1))
            count = turn
        self.assertEqual(self.ask("c", "add 0"), f"{count}\n")

    def test_what_was_accepted_is_handled_once(self):
        self.spawn("c", "counter")
        n = 0
        while self.kills < KILLS // 2:
            n += 1
            while self.once("send", "c", "add 1", "--key", f"k{n}") is None:
                pass
        self.assertEqual(self.ask("c", "add 0"), f"{n}\n")

    def test_an_actor_is_spawned_whole_or_not_at_all(self):
        n = 0
        while self.kills < KILLS // 2:
            n += 1
            if self.once("spawn", f"c{n}", "counter", "add 7") is None and f"c{n}" not in self.names():
                continue
            self.assertEqual(self.ask(f"c{n}", "add 1"), "8\n")
        self.succeed("list", "--in", self.node)

    def names(self):
        found = self.driftwood("list", "--json", "--in", self.node)
        return [row["name"] for row in found.json()["actors"]] if found.code == OK else []


if __name__ == "__main__":
    driftwood.main()
