"""Hugging Face's own safetensors reader finds in an actor's checkpoint what the live actor held: rows_test.py DRIFT ROWS TOKENS

ROWS: K then V of layer 0, K then V of layer 1, ..., as they lay in the actor's memory; TOKENS: its log. Written by session_test.c.
"""
import json
import sys

import numpy
from safetensors import safe_open

rows_there = numpy.fromfile(sys.argv[2], dtype=numpy.float16)
tokens_there = numpy.fromfile(sys.argv[3], dtype=numpy.int32)
with safe_open(sys.argv[1], framework="np") as file:
    metadata = file.metadata()
    handle = metadata["sessions"]
    session = json.loads(metadata[f"session.{handle}"])
    rows, layers = int(session["rows"]), int(session["layers"])
    found = [file.get_tensor(f"kv.{handle}.{which}.{layer}")[:rows].reshape(-1) for layer in range(layers) for which in "kv"]
    tokens = file.get_tensor(f"tokens.{handle}")[: int(session["tokens"])]
found = numpy.concatenate(found)
assert rows > 0 and numpy.any(found), "no rows to compare"
assert numpy.array_equal(found.view(numpy.uint16), rows_there.view(numpy.uint16)), "other rows"
assert numpy.array_equal(tokens, tokens_there), "other tokens"
print(f"{rows} rows of {layers} layers and {tokens.size} tokens: as in the actor")
