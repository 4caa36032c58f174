"""What a user sees of a program that compiles for long: a sentence within the limit, and an exit at once."""
import driftwood
from driftwood import REFUSED


def leb(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def section(kind, body):
    return bytes([kind]) + leb(len(body)) + body


def nested_loops(depth):
    """An actor of some 30 bytes a level; Wasmtime's time grows with the cube of the depth."""
    enter = b"".join(b"\x03\x40\x20" + bytes([i % 4]) + b"\x41\x01\x6a\x21" + bytes([i % 4]) for i in range(depth))
    code = b"\x01\x04\x7f" + enter + b"\x20\x03\x0d\x00\x0b" * depth + b"\x20\x00\x0b"
    name = b"driftwood_receive"
    return (b"\0asm\1\0\0\0" + section(1, b"\1\x60\0\1\x7f") + section(3, b"\1\0") + section(5, b"\1\0\1")
            + section(7, b"\1" + leb(len(name)) + name + b"\0\0") + section(10, b"\1" + leb(len(code)) + code))


class Compile(driftwood.Case):
    def test_a_program_that_compiles_for_long_is_given_up_with_a_sentence(self):
        path = self.path("deep.wasm")
        with open(path, "wb") as file:
            file.write(nested_loops(8000))  # minutes: longer than this test may take
        for json in ((), ("--json",)):
            result = self.refuse(REFUSED, "run", path, "--message", "go", "--model", "none", "--compile-limit", "1",
                                 *json)
            self.assertIn("deep.wasm: compiling takes longer than 1 s", result.err)
            self.assertIn("the heaviest function, 0, has", result.err)
            self.assertIn("--compile-limit SECONDS gives it more time", result.err)
        self.assertEqual(result.json()["error"]["status"], "DW_E_DEADLINE")

    def test_without_a_limit_it_takes_what_it_takes(self):
        path = self.path("shallow.wasm")
        with open(path, "wb") as file:
            file.write(nested_loops(700))
        for limit in ("0", "100"):
            self.succeed("freeze", path, self.path(f"{limit}.drift"), "--compile-limit", limit, "--model", "none")


if __name__ == "__main__":
    driftwood.main()
