"""Reads .drift files by docs/drift-format.md alone, with nothing of the runtime and no packages: a second reader keeps the page honest.

    format_test.py DRIFT_MAKE CORPUS

DRIFT_MAKE writes actor.drift and, beside it, the true bytes of every section; CORPUS holds files of versions 1 to 3.
"""

import hashlib
import json
import math
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

PAGE = 16384
BEGIN = b'{"__metadata__":{"hash.header":"'
KEYS = set(
    "hash.header format version program abi actor.name turn parent created_ns memory.bytes mailbox.bytes actor.bytes globals wasi sessions".split()
)
ADDED_IN_3 = {"base", "program.bytes"}
MAY_BE = {"tables"}
WASI = set("random_seed random_counter birth_realtime_ns turn_realtime_ns clock_reads".split())
SESSION = set(
    "model weights tokenizer hyperparameters profile mode tokens rows layers heads_kv head_dim sampler_seed sampler_counter".split()
)


SESSION_ADDED = {1: set(), 2: {"kv_type"}, 3: {"kv_type", "prefilled", "logits", "granted"}}

# Elements, bytes of a block; dtype of its sections.
KV_TYPES = {"F16": (1, 2, "F16"), "BF16": (1, 2, "BF16"), "Q8_0": (32, 34, "U8")}


def decimal(text):
    assert re.fullmatch("0|[1-9][0-9]*", text), text
    return int(text)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def unique(pairs):
    assert len({key for key, _ in pairs}) == len(pairs), "a key twice"
    return dict(pairs)


def header_of(data):
    """The header's object, after its bounds, its begin and its hash were checked."""
    (length,) = struct.unpack("<Q", data[:8])
    end = 8 + length
    assert end % PAGE == 0 and end <= 1 << 26 and end <= len(data)
    assert data[8:40] == BEGIN
    digits = data[40:104].decode()
    assert sha256(data[:40] + b"0" * 64 + data[104:end]) == digits
    return json.loads(data[8:end].rstrip(b" "), object_pairs_hook=unique), end


def wanted_sections(metadata):
    """(name, dtype, shape, meant bytes) of every section that the metadata calls for, in file order."""

    def flat(name, dtype, size, used):
        padded = -(-used // PAGE) * PAGE
        return name, dtype, [padded // size], used

    version = decimal(metadata["version"])
    yield flat("memory.0", "U8", 1, decimal(metadata["memory.bytes"]))
    for i, count in enumerate(metadata["tables"].split(" ") if "tables" in metadata else ()):
        yield flat(f"table.{i}", "I32", 4, 4 * decimal(count))
    for handle in metadata["sessions"].split():
        session = json.loads(metadata[f"session.{handle}"], object_pairs_hook=unique)
        assert set(session) == SESSION | SESSION_ADDED[version] and session["mode"] in ("exact", "fast")
        tokens, rows, layers, heads, dim = (decimal(session[key]) for key in ("tokens", "rows", "layers", "heads_kv", "head_dim"))
        assert rows <= tokens
        yield flat(f"tokens.{handle}", "I32", 4, 4 * tokens)
        logits = decimal(session.get("logits", "0"))
        if version >= 3:
            assert decimal(session["prefilled"]) <= rows and session["granted"] in ("yes", "no")
        if logits:
            assert rows == tokens > 0
            yield flat(f"logits.{handle}", "F32", 4, 4 * logits)
        elements, bytes_each, dtype = KV_TYPES[session.get("kv_type", "F16")]
        assert dim % elements == 0
        row = heads * dim // elements * bytes_each
        unit = PAGE // math.gcd(row, PAGE)
        for layer in range(layers):
            for which in "kv":
                shape = [row] if elements > 1 else [heads, dim]
                yield f"kv.{handle}.{which}.{layer}", dtype, [-(-rows // unit) * unit, *shape], rows * row
    yield flat("mailbox", "U8", 1, decimal(metadata["mailbox.bytes"]))
    yield flat("actor", "U8", 1, decimal(metadata["actor.bytes"]))
    if version >= 3:
        yield flat("program", "U8", 1, decimal(metadata["program.bytes"]))


def read(path):
    """The meant bytes of every section by name; fails where the file is not as the page says."""
    data = pathlib.Path(path).read_bytes()
    root, place = header_of(data)
    metadata = root.pop("__metadata__")
    assert metadata["format"] == "drift"
    version = decimal(metadata["version"])
    kv_types = {json.loads(metadata[f"session.{handle}"]).get("kv_type", "F16") for handle in metadata["sessions"].split()}
    assert version == 3 or version == (2 if kv_types - {"F16"} else 1)
    assert metadata.get("base", "") == ""
    assert set(json.loads(metadata["wasi"])) == WASI
    begin, out = place, {}
    for name, dtype, shape, used in wanted_sections(metadata):
        size = math.prod(shape) * {"U8": 1, "I32": 4, "F32": 4, "F16": 2, "BF16": 2}[dtype]
        assert root.pop(name) == {"dtype": dtype, "shape": shape, "data_offsets": [begin - place, begin - place + size]}, name
        section = data[begin : begin + size]
        assert metadata.pop(f"hash.{name}") == sha256(section), name
        assert not any(section[used:]), name
        if dtype == "I32":
            lowest = -1 if name.startswith("table.") else 0
            assert all(number >= lowest for (number,) in struct.iter_unpack("<i", section[:used])), name
        if dtype == "F32":
            assert all(logit < math.inf for (logit,) in struct.iter_unpack("<f", section[:used])), name  # a NaN is not less
        if name == "program" and used:
            assert sha256(section[:used]) == metadata["program"]
        out[name] = section[:used]
        begin += size
    assert begin == len(data) and not root
    assert set(metadata) - MAY_BE == KEYS | (ADDED_IN_3 if version >= 3 else set()) | {f"session.{handle}" for handle in metadata["sessions"].split()}
    return out


def main():
    kept = sorted(pathlib.Path(sys.argv[2]).glob("*.drift"))
    assert kept
    for path in kept:
        read(path)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], "dump", folder], check=True)
        truths = {path.name[: -len(".bin")]: path.read_bytes() for path in pathlib.Path(folder).glob("*.bin")}
        assert read(f"{folder}/actor.drift") == truths
    print(f"{len(kept) + 1} files are as docs/drift-format.md says, {len(truths)} sections as written")


main()
