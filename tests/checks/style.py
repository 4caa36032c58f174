"""Holds src/ and include/ to what a reader and a backtrace need: style.py [ROOT]

- no line is longer than 120 columns;
- no two .c files of src/ define a static function of the same name, so that a name in a backtrace says where it is;
- a type of an internal header (X_internal.h, or any header below src/) begins with dw_.

Prints one line per breach; the exit status is 1 when there is any.
"""
import pathlib
import re
import sys

COLUMNS = 120
SOURCES = {".c", ".h", ".cpp"}
# A comment, a string or a character: nothing in it is code.
NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
# A definition at the beginning of a line; a declaration ends in a semicolon, an array has no parenthesis.
STATIC = re.compile(r"^static\b[^;{}()=]*?\b(\w+)\s*\((?:[^;{}()]|\([^;{}()]*\))*\)\s*\{", re.M)
TYPE = re.compile(r"^(?:typedef\s+)?(?:struct|union|enum)\s+(\w+)\s*\{|^\}\s*(\w+)\s*;|^typedef\b[^;{]*?(\w+)\s*;", re.M)
FUNCTION_TYPE = re.compile(r"^typedef\b[^;{]*?\(\s*\*\s*(\w+)\s*\)\s*\([^;{]*\)\s*;", re.M)


def without_text(source: str) -> str:
    """The source with its comments and strings blanked; lines stay where they are."""
    return NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)


def line_of(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1


def long_lines(name: str, source: str) -> list[str]:
    return [f"{name}:{number}: {len(line)} columns, {COLUMNS} are allowed"
            for number, line in enumerate(source.splitlines(), 1) if len(line) > COLUMNS]


def static_functions(source: str) -> dict[str, int]:
    """The static functions that a .c file defines, and their lines."""
    code = without_text(source)
    return {found.group(1): line_of(code, found.start()) for found in STATIC.finditer(code)}


def bare_types(name: str, source: str) -> list[str]:
    """The types of a header whose names do not begin with dw_."""
    code = without_text(source)
    functions = {found.group(1): found.start() for found in FUNCTION_TYPE.finditer(code)}
    code_left = FUNCTION_TYPE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), code)
    types = dict(functions)
    for found in TYPE.finditer(code_left):
        types[found.group(1) or found.group(2) or found.group(3)] = found.start()
    return [f"{name}:{line_of(code, at)}: the type '{word}' of a header does not begin with dw_"
            for word, at in types.items() if not word.startswith("dw_")]


def breaches(root: pathlib.Path) -> list[str]:
    problems: list[str] = []
    defined: dict[str, list[str]] = {}
    for folder in ("include", "src"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in SOURCES:
                continue
            name, source = str(path.relative_to(root)), path.read_text(encoding="utf-8")
            problems += long_lines(name, source)
            if path.suffix == ".h" and folder == "src":
                problems += bare_types(name, source)
            if path.suffix == ".c":
                for function, line in static_functions(source).items():
                    defined.setdefault(function, []).append(f"{name}:{line}")
    for function, places in sorted(defined.items()):
        if len(places) > 1:
            problems.append(f"{places[-1]}: static function '{function}' is also defined at {', '.join(places[:-1])}")
    return problems


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    problems = breaches(root)
    print("\n".join(problems) or "style: every line fits, every static function has a name of its own")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
