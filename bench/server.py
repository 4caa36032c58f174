"""llama-server as the other side: started on a free port of 127.0.0.1, asked by bench_clients, ended. Python's standard library only."""
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import rows

PATIENCE_SECONDS = 120  # until it answers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """with Server(...) as server: it is up, and gone behind it. What it logs is shown only when it fails."""

    def __init__(self, options, sessions: int, context_tokens: int, weights: str, extra: list):
        self.options = options
        self.port = free_port()
        self.command = [str(options.theirs / "llama-server"), "-c", str(sessions * context_tokens), "-np", str(sessions), "--cont-batching",
                        "--host", "127.0.0.1", "--port", str(self.port)] + rows.llama_common(options, weights) + extra

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.fail()
            time.sleep(0.05)
        return self

    def __exit__(self, *ignored):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def fail(self):
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - 2000))
        said = self.log.read().decode(errors="replace")
        self.__exit__()
        sys.exit(f"bench/{self.options.name}: {' '.join(self.command)} does not answer:\n{said}")

    def ask(self, setting: dict, **values) -> list:
        """Rounds of bench_clients."""
        known = {"port": self.port, "n_vocab": setting["n_vocab"], "bos": setting["bos"]}
        return rows.lines_of(self.options, [str(self.options.ours / "bench_clients")] + rows.arguments_of({**known, **values}))
