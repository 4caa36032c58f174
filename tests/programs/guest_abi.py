"""docs/guest-abi.md, the SDK and the host's tables say what include/driftwood/guest.h says.

    guest_abi.py ROOT            compares; says what differs and exits 1
    guest_abi.py ROOT --write    brings the generated parts of docs/guest-abi.md up to date

A generated part stands between "<!-- generated: NAME -->" and "<!-- end -->".
"""
import pathlib
import re
import sys

SIZES = {"uint8_t": 1, "uint16_t": 2, "uint32_t": 4, "int32_t": 4, "float": 4, "uint64_t": 8, "int64_t": 8}


def without_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


# A comment on the lines of its own above a field or a limit, and one behind it: they say what it is.
ABOVE, BEHIND = r"(?:^[ \t]*/\*((?:(?!\*/).)*)\*/[ \t]*\n)?", r"[ \t]*(?:/\*((?:(?!\*/).)*)\*/)?"


def words_of(*comments):
    """What comments say, in one line, as the beginning of a table's cell."""
    return "; ".join(" ".join(re.sub(r"\n\s*\* ?", " ", comment).split()) for comment in comments if comment)


def table(rows, head):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows])


class Header:
    """What guest.h defines."""

    def __init__(self, text):
        self.text = text
        self.operations = self.read_operations()
        self.enums = self.read_enums()
        self.sizes = dict(SIZES)
        self.structs = self.read_structs()

    def read_operations(self):
        body = self.text.split("#define DW_OP_TABLE(X)")[1].split("typedef enum dw_op")[0]
        operations = []
        for name, number, window, rest in re.findall(r'X\((\w+), (\d+), ([01]),((?:[\s\\]*"(?:[^"\\]|\\.)*")+)', body):
            words = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', rest))
            operations.append((name, int(number), int(window), words))
        return operations

    def read_enums(self):
        values = {}
        for body in re.findall(r"enum\s*\w*\s*\{([^}]*)\}", without_comments(self.text)):
            for name, value in re.findall(r"(\w+)\s*=\s*(-?\d+)", body):
                values[name] = int(value)
        return values

    def read_structs(self):
        structs = {}
        for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", self.text, flags=re.S):
            fields, offset, biggest = [], 0, 1
            field_of = ABOVE + r"[ \t]*(\w+) ([\w, \[\]]+);" + BEHIND
            for above, types, names, behind in re.findall(field_of, body, flags=re.S | re.M):
                comment = words_of(above, behind)
                size = self.sizes[types]
                align = min(size, 8) if types in SIZES else 4
                for one in names.split(","):
                    field, _, count = one.strip().partition("[")
                    offset = -(-offset // align) * align
                    fields.append((offset, types, one.strip(), comment))
                    comment = ""  # belongs to the whole line: shown once
                    offset += size * (int(count.rstrip("]")) if count else 1)
                    biggest = max(biggest, align)
            self.sizes[name] = -(-offset // biggest) * biggest
            structs[name] = (self.sizes[name], fields)
        return structs

    def statuses(self):
        return {name: value for name, value in self.enums.items() if re.fullmatch(r"DW_OK|DW_E_\w+", name)}


def host_statuses(text):
    body = text.split("#define DW_STATUS_TABLE(X)")[1].split("typedef enum")[0]
    return {name: (int(number), kind, words) for name, number, kind, words in re.findall(r'X\((\w+), (-?\d+), (\w+), "([^"]*)"\)', body)}


def limits(text):
    """The limits of the section "Guest ABI", and those of an actor: (name, value, comment)."""
    rows = []
    for section in ("Guest ABI", "Actors"):
        body = text.split(f"/* {section} */")[1].split("\n\n")[0]
        limit_of = ABOVE + r"^#define (\w+) ([^\n]*?)" + BEHIND + "\n"
        for above, name, value, behind in re.findall(limit_of, body + "\n", flags=re.S | re.M):
            number = re.sub(r"UINT64_C\((\d+)\)", r"\1", value).rstrip("u")
            rows.append((f"`{name}`", eval(number, {"__builtins__": {}}), words_of(above, behind)))
    return rows


def generated(root):
    header = Header((root / "include/driftwood/guest.h").read_text())
    host = host_statuses((root / "src/base/status.h").read_text())
    parts = {
        "operations": table([(n, f"`{name}`", "yes" if window else "", words) for name, n, window, words in header.operations],
                            ("number", "operation", "window", "what it does")),
        "statuses": table([(value, f"`{name}`", host.get(name, (0, "?", "?"))[1], host.get(name, (0, "?", "?"))[2])
                           for name, value in header.statuses().items()], ("number", "status", "kind", "text")),
        "flags": table([(value, f"`{name}`") for name, value in header.enums.items()
                        if re.match(r"DW_(FLAG|TOKEN|ROW|GENERATE|EMBED|TENSOR|NODE)_", name)], ("number", "name")),
        "limits": table(limits((root / "src/base/limits.h").read_text()), ("limit", "value", "")),
    }
    for name, (size, fields) in header.structs.items():
        rows = [(offset, f"`{types}`", f"`{field}`", comment) for offset, types, field, comment in fields]
        parts[name] = f"`{name}`, {size} bytes:\n\n" + table(rows, ("offset", "type", "field", ""))
    return parts


def fill(document, parts, found):
    def replace(match):
        name = match.group(1)
        found.add(name)
        if name not in parts:
            return f"<!-- generated: {name} -->\nguest.h has no such thing\n<!-- end -->"
        return f"<!-- generated: {name} -->\n{parts[name]}\n<!-- end -->"
    return re.sub(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", replace, document, flags=re.S)


def check(root):
    """Everything that differs, as sentences."""
    wrong = []
    header = Header((root / "include/driftwood/guest.h").read_text())
    host = host_statuses((root / "src/base/status.h").read_text())
    sdk = (root / "sdk/c/dw.c").read_text()
    texts = dict(re.findall(r'case (\w+): return "([^"]*)";', sdk))
    for name, value in header.statuses().items():
        if name not in host:
            wrong.append(f"guest.h has {name}, src/base/status.h does not")
        elif host[name][0] != value:
            wrong.append(f"{name} is {value} in guest.h and {host[name][0]} in src/base/status.h")
        elif texts.get(name) != host[name][2]:
            wrong.append(f"{name}: sdk/c/dw.c says {texts.get(name)!r}, src/base/status.h {host[name][2]!r}")
    for name, (_, kind, _) in host.items():
        if kind != "corrupt" and name not in header.statuses():
            wrong.append(f"src/base/status.h has {name}, which a guest may meet, and guest.h does not")
    numbers = [number for _, number, _, _ in header.operations]
    if len(numbers) < 15 or len(set(numbers)) != len(numbers):
        wrong.append("guest.h: operations missing, or two with one number")
    asserted = dict(re.findall(r"_Static_assert\(sizeof\((\w+)\) == (\d+)", header.text))
    for name, size in asserted.items():
        if header.structs[name][0] != int(size):
            wrong.append(f"{name}: this script reads {header.structs[name][0]} bytes, guest.h asserts {size}")
    for path in ("tests/programs/fake_host.c", "src/door/operations.c"):
        known = (root / path).read_text()
        wrong += [f"{path} does not know {name}" for name, _, _, _ in header.operations if name not in known]
    stops = re.search(r"DW_STOP_STRINGS_MAX (\d+)", (root / "src/base/limits.h").read_text()).group(1)
    if f"DW_STOPS_MAX = {stops} " not in (root / "sdk/c/dw.h").read_text():
        wrong.append("DW_STOPS_MAX of sdk/c/dw.h is not DW_STOP_STRINGS_MAX")
    return wrong


def main():
    root = pathlib.Path(sys.argv[1])
    path = root / "docs/guest-abi.md"
    document, found, parts = path.read_text(), set(), generated(root)
    current = fill(document, parts, found)
    if sys.argv[2:] == ["--write"]:
        path.write_text(current)
    wrong = check(root)
    wrong += [f"docs/guest-abi.md has no part '{name}'" for name in parts if name not in found]
    wrong += [f"docs/guest-abi.md asks for '{name}', which guest.h does not have" for name in found if name not in parts]
    if current != path.read_text():
        wrong.append("docs/guest-abi.md is out of date: run tests/programs/guest_abi.py . --write")
    for sentence in wrong:
        print(sentence)
    print(f"{len(parts)} parts, {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
