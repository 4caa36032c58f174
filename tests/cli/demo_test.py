"""With a model: the demonstration proves what it says, and a chat survives in a file."""
import pathlib
import sys

import driftwood


class WithModel(driftwood.Case):
    def driftwood(self, *arguments, environment=None, **named):
        return super().driftwood(*arguments, environment={"DRIFTWOOD_MODEL": driftwood.MODEL, **(environment or {})}, **named)


class Demo(WithModel):
    def test_a_thawed_actor_goes_on_as_its_twin_that_was_never_frozen(self):
        report = self.succeed("demo", "--quick", "--json").json()
        for name in ("memory", "kv", "tokens", "text"):
            self.assertIs(report["equal"][name], True, name)
        self.assertTrue(report["parent_untouched"])
        self.assertEqual([row["tokens"] for row in report["thaw"]], [100, 1000])
        for row in report["thaw"]:
            for name in ("kv_bytes", "freeze_ms", "ready_ms", "first_token_ms", "reprefill_ms", "verify_ms", "process_ms"):
                self.assertGreater(row[name], 0, name)
            self.assertEqual(row["tokens_recomputed"], 0)
            self.assertEqual(row["tokens_reused"], row["tokens"] - 1)
            self.assertIs(row["exact"], True)
        fork = report["fork"]
        self.assertEqual(fork["tokens"], 1000)
        self.assertLess(fork["kv_own_bytes"], fork["copy_bytes"] / 2)
        self.assertIn("added_bytes", fork)
        self.assertGreater(fork["first_token_ms"], 0)


class Chat(WithModel):
    def test_a_conversation_is_saved_and_goes_on(self):
        file = self.path("chat.drift")
        first = self.succeed("chat", "--save", file, "--json", stdin="What is the capital of France?\n").json()
        self.assertTrue(first["turns"][0]["reply"].strip())
        self.assertEqual(first["frozen"]["file"], file)
        second = self.succeed("chat", "--thaw", file, "--json", stdin="And of Italy?\n").json()
        self.assertEqual(second["turns"][0]["turn"], first["turns"][0]["turn"] + 1)

    def test_commands_freeze_fork_and_count(self):
        frozen, forked = self.path("a.drift"), self.path("b.drift")
        out = self.succeed("chat", stdin=f"Hello!\n/stats\n/freeze {frozen}\n/fork {forked}\n/help\n/quit\nnot read any more\n").out
        self.assertIn("1 turns", out)
        self.assertIn("/freeze FILE", out)
        self.assertNotIn("not read any more", out)
        parent = self.succeed("inspect", frozen, "--verify", "--json").json()
        child = self.succeed("inspect", forked, "--verify", "--json").json()
        self.assertEqual(parent["sessions"][0]["tokens"], child["sessions"][0]["tokens"])

    def test_another_model_is_refused_with_the_reason(self):
        file = self.path("chat.drift")
        self.succeed("chat", "--save", file, stdin="Hello!\n")
        data = bytearray(pathlib.Path(driftwood.MODEL).read_bytes())
        data[-1] ^= 1  # a weight
        other = self.path("other.gguf")
        pathlib.Path(other).write_bytes(data)
        error = self.refuse(driftwood.REFUSED, "thaw", file, "--model", other, "--json").json()["error"]
        self.assertEqual(error["status"], "DW_E_MISMATCH")


class Models(WithModel):
    def test_a_model_is_described(self):
        model = self.succeed("models", driftwood.MODEL, "--json").json()["models"][0]
        self.assertTrue(model["usable"])
        for name in ("name", "architecture", "type", "file_bytes", "context_tokens", "kv_bytes_per_token"):
            self.assertTrue(model[name], name)


if __name__ == "__main__":
    if not driftwood.MODEL:
        print("no model: DW_MODEL is not set")
        sys.exit(driftwood.SKIPPED)
    driftwood.main()
