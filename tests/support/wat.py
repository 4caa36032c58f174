#!/usr/bin/env python3
"""wat.py SOURCE.wat TARGET.wasm: what wat2wasm does, for instructions that wabt does not know yet.

The package wasmtime brings the assembler; its engine is not used.
"""
import pathlib
import sys

import wasmtime

source, target = map(pathlib.Path, sys.argv[1:])
target.write_bytes(wasmtime.wat2wasm(source.read_text(encoding="utf-8")))
