"""Holds the #include lines of src/ to the layers: layers.py [ROOT]

- a module includes headers of its own folder and of the layers above it (the dw_layer lines of the
  root CMakeLists.txt, highest first), nothing below; a layer may be a room of a floor (model/gguf);
- of a room, its neighbours include the face alone, which has the room's name (model/gguf/gguf.h), and
  X_internal.h only where the layer names them as FRIENDS;
- headers and calls that reach the operating system appear in src/os only, so that every failure of
  the system can be injected in one place;
- a library from outside is used by the layers that declare it (OUTSIDE of the same lines);
- C++ is what the shims are written in, and nothing else: llama.h and calls of ggml that can throw stand in them alone, so that no
  exception can leave through our C.

Prints one line per breach; the exit status is 1 when there is any.
"""
import pathlib
import re
import sys

# Doors to the operating system, by header.
SYSTEM = re.compile(
    r"^(unistd|fcntl|pthread|threads|signal|dirent|poll|spawn|sched|semaphore|termios|dlfcn|netdb|"
    r"ucontext|setjmp|glob|ftw|pwd|grp|syslog|mqueue|ifaddrs|aio)\.h$|^(sys|net|netinet|arpa|linux|mach|asm)/"
)
# ... and by function, where the header also has harmless ones.
CALLS = re.compile(
    r"(?<![\w.>])(fopen|freopen|fdopen|tmpfile|remove|rename|popen|system|mmap|munmap|mprotect|"
    r"clock_gettime|gettimeofday|time|nanosleep|fork|execve?|open|close|pread|pwrite)\s*\("
)
OUTSIDE = {
    "openssl": re.compile(r"^openssl/"),
    "jansson": re.compile(r"^jansson"),
    "wasmtime": re.compile(r"^(wasmtime|wasm|wasi)(\.h$|/)(?!.*_)"),
    "ggml": re.compile(r"^(ggml|gguf)"),
    "llama": re.compile(r"^llama"),
    "sqlite": re.compile(r"^sqlite3"),
}
# C++ files: each is a shim that catches what its library throws.
SHIMS = {
    "model/text/llama_shim.cpp": re.compile(r"\b(?:llama|gguf)_\w+\s*\("),
    "device/guard.cpp": re.compile(r"\bggml_(?:backend|gallocr)_\w+(?<!_t)\s*\("),
}
# ... but these of ggml, which src/device/guard.h lists as calls that cannot throw.
HARMLESS = re.compile(
    r"\bggml_(?:backend_(?:buffer_(?:is_host|get_base|get_alloc_size|set_usage)|cpu_(?:set_n_threads|set_threadpool|set_abort_callback))|"
    r"gallocr_get_buffer_size)\s*\("
)
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


class Layers:
    """The dw_layer lines: names from the highest to the lowest, and what each says of itself."""

    def __init__(self, root: pathlib.Path):
        self.order: list[str] = []
        self.outside: dict[str, set[str]] = {}
        self.friends: dict[str, set[str]] = {}
        for words in re.findall(r"^dw_layer\(([^)]*)\)", (root / "CMakeLists.txt").read_text(), re.M):
            name, *rest = words.split()
            self.order.append(name)
            lists = {"OUTSIDE": set(), "FRIENDS": set()}
            to = set()
            for word in rest:
                to = lists.get(word, to)
                if word not in lists:
                    to.add(word)
            self.outside[name], self.friends[name] = lists["OUTSIDE"], lists["FRIENDS"]

    def of(self, path: str) -> str:
        """The layer of a file or header, by its path below src/; its first folder where there is none."""
        folder = path.rsplit("/", 1)[0] if "/" in path else ""
        return folder if folder in self.order else path.split("/", 1)[0]


def room_breach(name: str, other: str, module: str, layers: Layers) -> str | None:
    """Why `module` may not include header `name` of the layer `other`, which lies above it."""
    header = name.rsplit("/", 1)[1]
    if header.endswith("_internal.h"):
        return None if module in layers.friends[other] else f"{name}: '{module}' is no friend of '{other}'"
    if "/" in other and header != other.rsplit("/", 1)[1] + ".h":
        return f"{name}: neighbours of '{other}' include {other}/{other.rsplit('/', 1)[1]}.h alone"
    return None


def without_comments(text: str) -> str:
    """Comments and string contents are blanked; line numbers stay. Include lines keep their names."""

    def blank(match: re.Match) -> str:
        return re.sub(r"[^\n]", " ", match.group(0))

    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.S)
    lines = []
    for line in text.split("\n"):
        if not INCLUDE.match(line):
            line = re.sub(r'"(?:\\.|[^"\\])*"', '""', line)
            line = re.sub(r"//.*", "", line)
        lines.append(line)
    return "\n".join(lines)


def breaches_of_line(line: str, module: str, layers: Layers, root: pathlib.Path) -> list[str]:
    found = []
    include = INCLUDE.match(line)
    if not include:
        if module != "os":
            for call in CALLS.findall(line):
                found.append(f"{call}() reaches the system: only src/os may, through os.h")
            if re.match(r"\s*#\s*define\s+_(GNU|POSIX|DEFAULT|XOPEN|DARWIN)", line):
                found.append("feature-test macros belong to src/os")
        return found
    quote, name = include.groups()
    other = layers.of(name)
    ours = other in layers.order and quote == '"' and (root / "src" / name).exists()
    if ours:
        if layers.order.index(other) > layers.order.index(module):
            found.append(f"{name}: '{other}' is a lower layer than '{module}'")
        elif other != module and (why := room_breach(name, other, module, layers)):
            found.append(why)
        return found
    if module != "os" and SYSTEM.match(name):
        found.append(f"<{name}> is a door to the system: only src/os includes it")
    for library, pattern in OUTSIDE.items():
        if pattern.match(name) and library not in layers.outside[module]:
            found.append(f"{name}: layer '{module}' does not use {library} (dw_layer in CMakeLists.txt)")
    return found


def breaches_of_shims(line: str, path: str) -> list[str]:
    """Calls of C++ that belong into a shim, and its header."""
    found = []
    include = INCLUDE.match(line)
    if include and include.group(2) in ("llama.h", "llama-vocabulary.h") and path != "model/text/llama_shim.cpp":
        found.append("llama.h is included by model/text/llama_shim.cpp alone")
    if not include and path not in SHIMS:
        for shim, calls in SHIMS.items():
            names = [call.group(0) for call in calls.finditer(line) if not HARMLESS.match(call.group(0))]
            found += [f"{name}) may throw: it is called in {shim} alone" for name in names]
    return found


def check(root: pathlib.Path) -> tuple[list[str], int]:
    layers = Layers(root)
    problems, n_files = [], 0
    for path in sorted((root / "src").rglob("*")):
        if path.suffix not in (".c", ".h", ".cpp", ".inc"):
            continue
        n_files += 1
        where = path.relative_to(root)
        module = layers.of(str(where.relative_to("src")))
        if module not in layers.order:
            problems.append(f"{where}: '{module}' is not a layer")
            continue
        below = str(where.relative_to("src"))
        if path.suffix == ".cpp" and below not in SHIMS:
            problems.append(f"{where}: C++ is for shims (SHIMS in tests/checks/layers.py)")
        for number, line in enumerate(without_comments(path.read_text()).split("\n"), 1):
            for problem in breaches_of_line(line, module, layers, root):
                problems.append(f"{where}:{number}: {problem}")
            if path.suffix != ".h":
                problems += [f"{where}:{number}: {problem}" for problem in breaches_of_shims(line, below)]
    return problems, n_files


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    problems, n_files = check(root)
    print("\n".join(problems + [f"{n_files} files, {len(problems)} breaches"]))
    return 1 if problems or n_files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
