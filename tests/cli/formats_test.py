"""Model files in parts and KV rows of another type than F16, with a model of 37 KB."""
import pathlib
import struct

import driftwood
from driftwood import REFUSED, USAGE

MODEL = pathlib.Path(__file__).parent.parent / "model" / "weights" / "corpus" / "whole_model.gguf"
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Reader:
    """As much of GGUF as it takes to cut a file in two."""

    def __init__(self, data):
        self.data, self.at = data, 24
        self.n_tensors, self.n_keys = struct.unpack_from("<QQ", data, 8)
        begin = self.at
        for _ in range(self.n_keys):
            self.string()
            self.value(self.number("<I"))
        self.keys = data[begin:self.at]
        self.tensors = [self.tensor() for _ in range(self.n_tensors)]
        self.begin = -(-self.at // 32) * 32

    def number(self, form):
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self):
        size = self.number("<Q")
        self.at += size
        return self.data[self.at - size:self.at]

    def value(self, kind):
        if kind == 8:
            self.string()
        elif kind == 9:
            element, count = self.number("<I"), self.number("<Q")
            for _ in range(count):
                self.value(element)
        else:
            self.at += SIZES[kind]

    def tensor(self):
        name = self.string()
        shape = [self.number("<Q") for _ in range(self.number("<I"))]
        kind, offset = self.number("<I"), self.number("<Q")
        size = {0: 4, 1: 2}[kind]
        for dimension in shape:
            size *= dimension
        return name, shape, kind, offset, size


def text(data):
    return struct.pack("<Q", len(data)) + data


def split_keys(index, count, n_tensors):
    pairs = ((b"split.no", 2, "<H", index), (b"split.count", 2, "<H", count), (b"split.tensors.count", 5, "<i", n_tensors))
    return b"".join(text(name) + struct.pack("<I", kind) + struct.pack(form, value) for name, kind, form, value in pairs)


def part(model, index, count, tensors):
    keys = (model.keys if index == 0 else b"") + split_keys(index, count, model.n_tensors)
    infos, body = b"", b""
    for name, shape, kind, offset, size in tensors:
        infos += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, len(body))
        body += model.data[model.begin + offset:model.begin + offset + size]
        body += bytes(-len(body) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 3 + (model.n_keys if index == 0 else 0)) + keys + infos
    return head + bytes(-len(head) % 32) + body


class Parts(driftwood.Case):
    def setUp(self):
        super().setUp()
        model = Reader(MODEL.read_bytes())
        folder = self.folder / "cache" / "models"
        folder.mkdir(parents=True)
        self.paths = [str(folder / f"tiny-{i + 1:05}-of-00002.gguf") for i in range(2)]
        for i, tensors in enumerate((model.tensors[:4], model.tensors[4:])):
            pathlib.Path(self.paths[i]).write_bytes(part(model, i, 2, tensors))

    def test_the_first_part_is_the_model(self):
        (model,) = self.succeed("models", "--json").json()["models"]
        self.assertEqual(model["path"], self.paths[0])
        self.assertTrue(model["usable"])
        self.assertEqual(model["parts"], 2)
        self.assertEqual(model["file_bytes"], sum(pathlib.Path(path).stat().st_size for path in self.paths))
        self.assertIn("in 2 parts", self.succeed("models").out)
        self.assertEqual(self.succeed("models", str(MODEL), "--json").json()["models"][0]["parts"], 1)

    def test_it_says_what_the_whole_says(self):
        replies = []
        for path in (str(MODEL), self.paths[0]):
            file = self.path("a.drift")
            self.succeed("freeze", "chat", file, "--force", "--model", path, "--threads", "1", "--at", "1700000000000000000")
            replies.append(self.succeed("ask", file, "hello world", "--model", path, "--threads", "1").out)
        self.assertTrue(replies[0].strip())
        self.assertEqual(replies[0], replies[1])

    def test_a_later_part_names_the_first(self):
        result = self.driftwood("models", self.paths[1])
        self.assertEqual(result.code, REFUSED)
        self.assertIn("this is part 2 of 2: open tiny-00001-of-00002.gguf", result.out)

    def test_a_missing_part_is_named(self):
        pathlib.Path(self.paths[1]).unlink()
        result = self.driftwood("models", self.paths[0])
        self.assertEqual(result.code, REFUSED)
        self.assertIn("part 2 of 2", result.out)


class KvTypes(driftwood.Case):
    options = ("--model", str(MODEL), "--threads", "1")

    def freeze(self, *options):
        file = self.path("c.drift")
        self.succeed("freeze", "chat", file, "--force", "--message", "hello", *self.options, *options)
        return file

    def test_a_checkpoint_is_thawed_in_its_type(self):
        file = self.freeze("--kv", "bf16")
        report = self.succeed("inspect", file, "--json").json()
        (session,) = report["sessions"]
        self.assertEqual((report["version"], session["kv_type"]), (3, "BF16"))
        self.assertGreater(session["rows"], 0)
        self.assertEqual(session["kv_bytes"], session["rows"] * 64)
        self.assertIn("kv=BF16", session["profile"])
        thawed = self.succeed("thaw", file, *self.options, "--json").json()
        self.assertTrue(thawed["exact"])
        self.assertEqual(thawed["tokens_reused"], session["rows"])

    def test_f16_is_the_type_without_an_option(self):
        report = self.succeed("inspect", self.freeze(), "--json").json()
        self.assertEqual(report["sessions"][0]["kv_type"], "F16")

    def test_another_type_is_refused_with_both_names(self):
        result = self.refuse(REFUSED, "thaw", self.freeze("--kv", "bf16"), *self.options, "--kv", "f16", "--json")
        self.assertEqual(result.json()["error"]["status"], "DW_E_MISMATCH")
        self.assertIn("the checkpoint has BF16, this model F16", result.err)
        result = self.refuse(REFUSED, "thaw", self.freeze(), *self.options, "--kv", "bf16")
        self.assertIn("the checkpoint has F16, this model BF16", result.err)

    def test_heads_that_are_no_whole_blocks_are_refused(self):
        result = self.refuse(REFUSED, "freeze", "chat", self.path("q.drift"), *self.options, "--kv", "q8_0")
        self.assertIn("heads of a multiple of 32; this model's have 16", result.err)

    def test_an_unknown_type_is_a_usage_error(self):
        for name in ("q4_0", "F32", "", "q8_0x", "f16f16f16"):
            result = self.refuse(USAGE, "freeze", "chat", self.path("q.drift"), *self.options, "--kv", name)
            self.assertIn("--kv is f16, bf16 or q8_0", result.err)


if __name__ == "__main__":
    driftwood.main()
