"""A .drift is a safetensors file: Hugging Face's own reader opens it and finds what the runtime put in.

    safetensors_test.py DRIFT_MAKE

DRIFT_MAKE writes actor.drift and, beside it, the true bytes of every section. Exit code 77 = skipped.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy
    from safetensors import safe_open
except ImportError as missing:
    print(f"skipped: {missing} (tests/requirements.txt names the packages)")
    sys.exit(77)

DTYPES = {"memory": numpy.uint8, "mailbox": numpy.uint8, "actor": numpy.uint8, "tokens": numpy.int32, "table": numpy.int32, "kv": numpy.float16, "logits": numpy.float32, "program": numpy.uint8}
KV_TYPES = {"F16": numpy.float16, "BF16": None, "Q8_0": numpy.uint8}  # numpy has no bfloat16


def kv_type_of(metadata, name):
    """What the rows of a KV section are made of; None for other sections."""
    parts = name.split(".")
    return json.loads(metadata[f"session.{parts[1]}"]).get("kv_type", "F16") if parts[0] == "kv" else None


def check_section(name, array, truth, kv_type):
    """The section begins with the true bytes, goes on with zeros only, and fills whole pages."""
    dtype = KV_TYPES[kv_type] if kv_type else DTYPES[name.split(".")[0]]
    assert array.dtype == dtype, f"{name}: dtype {array.dtype}"
    assert array.nbytes % 16384 == 0, f"{name}: {array.nbytes} bytes are not whole pages"
    expected = numpy.frombuffer(truth, dtype=dtype)
    flat = array.reshape(-1)
    assert numpy.array_equal(flat[: expected.size].view(numpy.uint8), expected.view(numpy.uint8)), f"{name}: other bytes"
    assert not flat[expected.size :].view(numpy.uint8).any(), f"{name}: padding is not zero"


def check_session(metadata, handle, tensors):
    """The counts in the metadata say which rows and tokens are true."""
    session = json.loads(metadata[f"session.{handle}"])
    rows, heads, dim = (int(session[key]) for key in ("rows", "heads_kv", "head_dim"))
    kv_type = session.get("kv_type", "F16")
    row = (heads * dim // 32 * 34,) if kv_type == "Q8_0" else (heads, dim)
    for layer in range(int(session["layers"])):
        for which in "kv":
            name = f"kv.{handle}.{which}.{layer}"
            if KV_TYPES[kv_type] is None:
                continue
            array, truth = tensors[name]
            assert array.shape[1:] == row and array.shape[0] >= rows, f"{name}: shape {array.shape}"
            expected = numpy.frombuffer(truth, dtype=KV_TYPES[kv_type]).reshape(rows, *row)
            assert numpy.array_equal(array[:rows], expected), f"{name}: other rows"
    array, truth = tensors[f"tokens.{handle}"]
    expected = numpy.frombuffer(truth, dtype=numpy.int32)
    assert int(session["tokens"]) == expected.size and numpy.array_equal(array[: expected.size], expected), f"tokens.{handle}"


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], "dump", folder], check=True)
        truths = {path.name[: -len(".bin")]: path.read_bytes() for path in pathlib.Path(folder).glob("*.bin")}
        with safe_open(f"{folder}/actor.drift", framework="np") as file:
            metadata = file.metadata()
            assert set(file.keys()) == set(truths), f"sections {sorted(file.keys())}"
            kv_types = {name: kv_type_of(metadata, name) for name in file.keys()}
            tensors = {name: (file.get_tensor(name), truths[name]) for name in file.keys() if kv_types[name] != "BF16"}
            for name in set(truths) - set(tensors):
                assert file.get_slice(name).get_dtype() == "BF16", name
        for name, (array, truth) in tensors.items():
            check_section(name, array, truth, kv_types[name])
        handles = metadata["sessions"].split()
        for handle in handles:
            check_session(metadata, handle, tensors)
        assert metadata["format"] == "drift" and metadata["version"] == "3"
        assert int(metadata["memory.bytes"]) == len(truths["memory.0"])
    print(f"safetensors read {len(tensors)} sections of {len(handles)} sessions: all as written")


main()
