"""What happens to files: two who write one, processes that are killed, disks that are full, names that lead elsewhere."""
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

import driftwood
from driftwood import FAILED, REFUSED, USAGE

MODEL = pathlib.Path(__file__).parent.parent / "model" / "weights" / "corpus" / "whole_model.gguf"
SIGNAL = 6
ROUNDS = 200


class Files(driftwood.Case):
    def setUp(self):
        super().setUp()
        self.file = self.path("c.drift")
        self.succeed("freeze", "counter", self.file, "--message", "add 0")

    def environment(self):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTWOOD_")}
        variables["DRIFTWOOD_CACHE"] = str(self.cache or self.folder / "cache")
        return variables

    def start(self, *arguments, limit=None, **named):
        """A process that runs on its own; `limit` is the most bytes that a file may get."""
        command = [driftwood.BINARY, *arguments]
        if limit is not None:
            command = ["prlimit", f"--fsize={limit}", *command]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **named}
        return subprocess.Popen(command, env=self.environment(), **pipes)

    def sum(self):
        report = self.succeed("thaw", self.file, "--message", "get", "--json").json()
        return int(report["turns"][0]["reply"].split("sum=")[1].split()[0])

    def only_the_file_is_there(self):
        self.assertEqual([name for name in os.listdir(self.folder) if name.endswith(".tmp")], [])


class Writers(Files):
    def test_of_two_who_ask_at_once_no_turn_is_lost(self):
        def ask():
            for _ in range(ROUNDS // 4):
                process = self.start("ask", self.file, "add 1")
                _, err = process.communicate(timeout=120)
                ends.append((process.returncode, err))

        ends = []
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([end for end in ends if end[0] != 0], [])
        self.assertEqual(self.sum(), ROUNDS)
        self.only_the_file_is_there()

    def test_a_killed_ask_leaves_the_old_file_or_the_new(self):
        seed = random.randrange(1 << 30)
        print("seed", seed)
        chance = random.Random(seed)
        answered = 0
        for _ in range(ROUNDS):
            process = self.start("ask", self.file, "add 1")
            try:
                process.wait(timeout=chance.random() * 0.3)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            answered += process.returncode == 0
        total = self.sum()
        self.assertGreaterEqual(total, answered)
        self.assertLessEqual(total, ROUNDS)
        self.succeed("ask", self.file, "add 1")
        self.only_the_file_is_there()  # what the killed ones left, the next one removed

    def test_a_file_that_was_changed_by_others_meanwhile_is_not_replaced(self):
        process = self.start("chat", "--save", self.path("chat.drift"), "--model", str(MODEL), "--threads", "1", "--program", "counter",
                             stdin=subprocess.PIPE)
        process.stdin.write(b"add 1\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), b"1\n")
        time.sleep(0.2)  # it is kept behind the answer
        pathlib.Path(self.path("chat.drift")).unlink()
        os.link(self.file, self.path("chat.drift"))
        out, err = process.communicate(b"add 1\n", timeout=60)
        self.assertEqual(process.returncode, REFUSED, out + err)
        self.assertIn(b"changed by somebody else", err)


class FullDisks(Files):
    def test_a_full_disk_leaves_the_old_file_and_nothing_else(self):
        before = pathlib.Path(self.file).read_bytes()
        for limit in [*range(0, len(before), max(4096, len(before) // 40)), len(before) - 1]:
            process = self.start("ask", self.file, "add 1", limit=limit)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, FAILED, (limit, out, err))
            self.assertIn(b"driftwood", err)
            self.assertEqual(pathlib.Path(self.file).read_bytes(), before)
            self.only_the_file_is_there()
        self.succeed("ask", self.file, "add 1")

    def test_a_checkpoint_that_is_cut_while_it_is_mapped_ends_with_its_name(self):
        process = self.start("chat", "--thaw", self.file, "--model", "none", stdin=subprocess.PIPE)
        process.stdin.write(b"get\n")
        process.stdin.flush()
        first = process.stdout.readline()
        self.assertIn(b"sum=0", first)
        os.truncate(self.file, 4096)
        out, err = process.communicate(b"fill 1000\nget\n", timeout=60)
        self.assertIn(process.returncode, (0, REFUSED, FAILED, driftwood.GUEST))
        if process.returncode == FAILED:
            self.assertIn(b"c.drift", err)


class Names(Files):
    def test_what_is_there_is_replaced_with_force_only(self):
        other = self.path("other.drift")
        pathlib.Path(other).write_text("mine")
        for arguments in (("freeze", "counter", other), ("fork", self.file, other), ("run", "counter", "--message", "get", "--freeze", other)):
            error = self.refuse(REFUSED, *arguments, "--json").json()["error"]
            self.assertEqual((error["status"], "--force" in error["hint"]), ("DW_E_EXISTS", True))
            self.assertEqual(pathlib.Path(other).read_text(), "mine")
        self.succeed("fork", self.file, other, "--force")
        self.succeed("inspect", other, "--verify")

    def test_a_fork_never_takes_its_parents_place(self):
        os.symlink(self.file, self.path("link.drift"))
        before = pathlib.Path(self.file).read_bytes()
        for name in (self.file, self.path("link.drift"), str(self.folder / "." / "c.drift")):
            self.refuse(USAGE, "fork", self.file, name, "--force")
        self.assertEqual(pathlib.Path(self.file).read_bytes(), before)

    def test_a_link_stays_a_link(self):
        link, target = self.path("link.drift"), self.path("target.drift")
        os.symlink("target.drift", link)
        self.succeed("freeze", "counter", link, "--message", "add 3")
        self.assertTrue(os.path.islink(link))
        self.assertFalse(os.path.islink(target))
        self.succeed("ask", link, "add 1")
        self.assertTrue(os.path.islink(link))
        self.file = target
        self.assertEqual(self.sum(), 4)

    def test_only_plain_files_are_written(self):
        os.mkfifo(self.path("pipe.drift"))
        for name in ("/dev/null", str(self.folder), self.path("pipe.drift")):
            for force in ((), ("--force",)):
                self.assertIn(self.driftwood("freeze", "counter", name, *force).code, (REFUSED, USAGE))
        self.assertTrue(pathlib.Path("/dev/null").is_char_device())

    def test_a_place_where_nothing_can_be_written_shows_before_the_work(self):
        result = self.refuse(REFUSED, "chat", "--save", self.path("no/such/folder/x.drift"), "--model", str(MODEL), stdin="hello\n")
        self.assertEqual(result.out, "")


class Conversations(Files):
    options = ("--model", str(MODEL), "--threads", "1", "--program", "counter")

    def chat(self, *lines):
        save = self.path("chat.drift")
        process = self.start("chat", "--save", save, *self.options, stdin=subprocess.PIPE)
        for line in lines:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            if line.startswith("add"):
                process.stdout.readline()
        self.file = save
        return process

    def kept(self, expected):
        # The answer is shown before the file is written.
        for _ in range(100):
            if pathlib.Path(self.file).exists() and self.sum() == expected:
                return
            time.sleep(0.05)
        self.assertEqual(self.sum(), expected)

    def test_every_turn_is_in_the_file_however_the_process_ends(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            process = self.chat("add 5", "add 6")
            self.kept(11)
            process.send_signal(number)
            process.communicate(timeout=60)
            self.assertEqual(process.returncode, -signal.SIGKILL if number == signal.SIGKILL else SIGNAL)
            self.kept(11)
            os.unlink(self.file)

    def test_a_reader_that_goes_away_costs_nothing_that_was_said(self):
        process = self.chat("add 5")
        process.stdout.close()
        process.stdin.write(b"add 6\n")
        process.stdin.close()
        process.wait(timeout=60)
        self.assertGreaterEqual(process.returncode, 0)
        self.kept(11)

    def test_a_line_that_is_too_long_is_refused_and_what_was_said_is_kept(self):
        process = self.chat("add 5")
        out, err = process.communicate(b"x" * (5 << 20) + b"\nadd 6\n", timeout=120)
        self.assertEqual(process.returncode, REFUSED, err)
        self.assertIn(b"more than the", err)
        self.kept(5)


class Options(Files):
    def test_what_cannot_be_honoured_is_a_usage_error(self):
        chat = ("chat", "--model", str(MODEL))
        for options in (("--seed", "abc"), ("--seed", "-1"), ("--seed", ""), ("--seed", "1x"), ("--temperature", "hot"), ("--temperature", "nan"),
                        ("--temperature", "-1"), ("--temperature", "11"), ("--temperature", "1e"), ("--temperature", "")):
            self.refuse(USAGE, *chat, *options)
        for options in (("--turn-limit", "-1"), ("--turn-limit", "1.5"), ("--threads", "many"), ("--at", "now"), ("--memory", "x")):
            self.refuse(USAGE, "run", "counter", "--message", "get", *options)

    def test_settings_of_a_chat_are_honoured_when_it_is_thawed(self):
        file = self.path("chat.drift")
        self.succeed("chat", "--model", str(MODEL), "--save", file, stdin="hello\n")
        stats = self.succeed("chat", "--model", str(MODEL), "--thaw", file, "--seed", "77", "--temperature", "0.5", stdin="/stats\n").out
        self.assertIn("seed 77, temperature 0.50", stats)

    def test_a_turn_that_takes_too_long_is_ended(self):
        started = time.monotonic()
        error = self.refuse(REFUSED, "run", str(driftwood.PROGRAMS / "cli_loop.wasm"), "--message", "go", "--turn-limit", "1", "--json").json()["error"]
        self.assertEqual(error["status"], "DW_E_DEADLINE")
        self.assertIn("--turn-limit", error["text"])
        self.assertLess(time.monotonic() - started, 60)



class Lines(Files):
    """What does not fit is no turn: the command fails, says which part it is, and the file stays as it was."""

    def model_with_context(self, n_tokens):
        """The small model with another context, whose number stands behind its key and its type."""
        content = bytearray(MODEL.read_bytes())
        key = b".context_length"
        at = content.index(key) + len(key)
        self.assertEqual(content[at:at + 4], (4).to_bytes(4, "little"))
        content[at + 4:at + 8] = n_tokens.to_bytes(4, "little")
        path = self.path(f"{n_tokens}.gguf")
        pathlib.Path(path).write_bytes(content)
        return path

    def refuse_line(self, sentence, *arguments):
        for json in ((), ("--json",)):
            result = self.refuse(REFUSED, *arguments, *json)
            self.assertIn(sentence, result.err)
        error = result.json()["error"]
        self.assertIn("DW_E_FULL", error["text"])
        self.assertIn(sentence, error["text"])

    def test_a_line_that_does_not_fit_is_refused_and_nothing_is_kept(self):
        model, file = self.model_with_context(2048), self.path("chat.drift")
        self.succeed("chat", "--model", model, "--save", file, stdin="hello\n")
        before = pathlib.Path(file).read_bytes()
        self.refuse_line("The context of 2048 has room for ", "ask", file, "x" * 3000, "--model", model)
        self.refuse_line("That line has 5000 bytes; a line has at most 4095.",
                         "ask", file, "x" * 5000, "--model", model)
        self.assertEqual(pathlib.Path(file).read_bytes(), before)
        self.succeed("ask", file, "hello", "--model", model)

    def test_a_preface_that_does_not_fit_is_named(self):
        model = self.model_with_context(256)
        result = self.refuse(REFUSED, "chat", "--model", model, stdin="hello\n")
        self.assertIn("The context of 256 tokens has no room for a line: the preface has ", result.err)

    def test_a_message_that_is_too_long_for_a_program_is_refused(self):
        self.refuse_line("That message has 5000 bytes; at most 4095 are taken.", "ask", self.file, "x" * 5000)
        self.assertEqual(self.sum(), 0)


if __name__ == "__main__":
    driftwood.main()
