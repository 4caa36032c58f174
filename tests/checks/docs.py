"""Verifies that the documentation cites what exists: docs.py [ROOT]

Looks in README.md, SECURITY.md and docs/ for `path/to/file.c:function` and for `path/to/file.c`
alone, and checks that the file is there and defines, declares or #defines that name. A command there or
in sdk/ that compiles a guest must link it so that it can be trusted with state. Exit status: 0 all true,
1 something is not, 77 there is no documentation yet.
"""
import pathlib
import re
import sys

SUFFIXES = r"(?:c|h|cpp|inc|py|sh|cmake|txt|rs|wat|go|md)"
CITED = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\." + SUFFIXES + r")(?::(\w+)(?:\(\))?)?`")
# Paths that the reader has, not the tree.
COMPILES = re.compile(r"clang\S* .*--target=wasm32")
COMPILED_WITH = ("-mexec-model=reactor", "-Wl,--stack-first")
NOT_OURS = re.compile(r"^(build|build-test|~|usr|etc)/")


def defines(text: str, name: str) -> bool:
    # A definition or declaration begins in the first column; calls do not.
    patterns = (
        rf"^[A-Za-z_][^;=\n]*\b{name}\s*\(",
        rf"^\s*#\s*define\s+{name}\b",
        rf"^\s*(?:typedef\s+)?(?:struct|enum|union)\s+{name}\b",
        rf"^\s*(?:def|class|fn|func|function)\s+{name}\b",
        rf"^{name}\s*\(\)",
        rf"^\}}\s*{name}\s*;",
        rf"^\s+{name}\s*(?:=|,)",
    )
    return any(re.search(pattern, text, re.M) for pattern in patterns)


def check(root: pathlib.Path) -> tuple[list[str], int]:
    pages = [page for page in (root / "README.md", root / "SECURITY.md") if page.exists()]
    pages += sorted((root / "docs").rglob("*.md")) if (root / "docs").exists() else []
    problems, n_cited = [], 0
    for page in pages + sorted((root / "sdk").rglob("*.md")):
        for number, line in enumerate(page.read_text().split("\n"), 1):
            if COMPILES.search(line):
                problems += [f"{page.relative_to(root)}:{number}: a guest is compiled without {flag}" for flag in COMPILED_WITH if flag not in line]
    for page in pages:
        for number, line in enumerate(page.read_text().split("\n"), 1):
            for path, name in CITED.findall(line):
                if NOT_OURS.match(path):
                    continue
                n_cited += 1
                where = f"{page.relative_to(root)}:{number}"
                target = root / path
                if not target.is_file():
                    problems.append(f"{where}: there is no {path}")
                elif name and not defines(target.read_text(), name):
                    problems.append(f"{where}: {path} has no {name}")
    return problems, n_cited


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    problems, n_cited = check(root)
    print("\n".join(problems + [f"{n_cited} citations, {len(problems)} wrong"]))
    if problems:
        return 1
    return 0 if n_cited > 0 else 77


if __name__ == "__main__":
    sys.exit(main())
