"""The checks themselves: each must notice what it is for, in a small tree made for the purpose."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import docs  # noqa: E402
import layers  # noqa: E402
import style  # noqa: E402

ROOT_FILE = "dw_layer(base OUTSIDE openssl)\ndw_layer(os OUTSIDE threads)\ndw_layer(wasm OUTSIDE wasmtime)\n"


class Tree(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        self.write("CMakeLists.txt", ROOT_FILE)
        self.write("src/base/base.h", "/* unistd.h open( */\n")
        self.write("src/os/os.h", '#include "base/base.h"\n')

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def breaches(self, path, text):
        self.write(path, text)
        return layers.check(self.root)[0]


class Style(Tree):
    def problems(self, path, text):
        self.write(path, text)
        return style.breaches(self.root)

    def test_a_clean_tree_passes(self):
        self.write("src/base/b.c", "static int load_base(void) { return 0; }\n")
        text = "static int load_os(void);\nstatic int load_os(void) { return 0; }\nstatic const int load_base[] = {1};\n"
        self.assertEqual(self.problems("src/os/a.c", text), [])

    def test_lines_have_an_end(self):
        self.assertEqual(self.problems("src/os/a.c", "x" * 120 + "\n"), [])
        found = self.problems("include/driftwood/a.h", "int a;\n" + "x" * 121 + "\n")
        self.assertEqual(len(found), 1)
        self.assertIn("include/driftwood/a.h:2: 121 columns", found[0])

    def test_a_static_function_has_a_name_of_its_own(self):
        self.write("src/base/b.c", "static int load(const char *text,\n                int (*each)(void *)) {\n    return 0;\n}\n")
        found = self.problems("src/os/a.c", "\nstatic inline const char *load(void) { return 0; }\n")
        self.assertEqual(len(found), 1)
        self.assertIn("src/os/a.c:2: static function 'load'", found[0])
        self.assertIn("src/base/b.c:1", found[0])

    def test_text_is_no_code(self):
        self.write("src/base/b.c", "static int load(void) { return 0; }\n")
        text = "/*\nstatic int load(void) { return 0; }\n*/\nconst char *a = \"static int load(void) {\";\n"
        self.assertEqual(self.problems("src/os/a.c", text), [])

    def test_types_of_headers_carry_the_prefix(self):
        text = ("typedef struct dw_a { int b; } dw_a;\nenum { B = 1 };\ntypedef bool (*dw_each)(void *);\n"
                "typedef struct part {\n    int c;\n} part;\ntypedef int (*each)(void *);\n")
        found = self.problems("src/os/a_internal.h", text)
        self.assertEqual(sorted(line.split("'")[1] for line in found), ["each", "part"])


class Layers(Tree):
    def test_a_clean_tree_passes(self):
        self.assertEqual(self.breaches("src/wasm/a.c", '#include <stdio.h>\n#include "os/os.h"\n#include <wasmtime.h>\n'), [])

    def test_a_higher_layer_may_not_include_a_lower_one(self):
        found = self.breaches("src/base/a.c", '#include "os/os.h"\n')
        self.assertEqual(len(found), 1)
        self.assertIn("src/base/a.c:1", found[0])

    def test_system_headers_belong_to_os(self):
        self.assertEqual(len(self.breaches("src/wasm/a.c", "#include <sys/mman.h>\n#include <unistd.h>\n")), 2)
        self.write("src/wasm/a.c", "")
        self.assertEqual(self.breaches("src/os/a.c", "#include <sys/mman.h>\n"), [])

    def test_system_calls_belong_to_os(self):
        self.assertEqual(len(self.breaches("src/wasm/a.c", 'void f(void) { fopen("x", "r"); }\n')), 1)
        self.assertEqual(self.breaches("src/wasm/a.c", '/* fopen() */ void f(void) { dw_file_open(p->close(), "open("); }\n'), [])

    def test_libraries_belong_to_the_layers_that_declare_them(self):
        self.assertEqual(len(self.breaches("src/os/a.c", "#include <openssl/sha.h>\n#include <wasmtime.h>\n#include <wasm.h>\n")), 3)

    def test_cpp_is_for_the_shims(self):
        self.assertEqual(len(self.breaches("src/wasm/a.cpp", "int a;\n")), 1)
        self.write("src/wasm/a.cpp", "")
        (self.root / "src/wasm/a.cpp").unlink()
        found = self.breaches("src/wasm/a.c", "int f(void) { return llama_tokenize(v) + ggml_backend_graph_compute(b, g) + ggml_add(c, a, b); }\n")
        self.assertEqual(len(found), 2)
        self.assertIn("device/guard.cpp alone", found[1])
        self.assertEqual(self.breaches("src/wasm/a.c", "void f(void) { ggml_backend_buffer_is_host(b); ggml_backend_reg_t (*reg)(void); }\n"), [])

    def room(self, text, path="src/top/a.c"):
        self.write("CMakeLists.txt", ROOT_FILE + "dw_layer(floor/attic FRIENDS floor)\ndw_layer(floor)\ndw_layer(floor/cellar)\ndw_layer(top)\n")
        for name in ("attic/attic.h", "attic/part.h", "attic/attic_internal.h", "floor.h", "cellar/cellar.h"):
            self.write(f"src/floor/{name}", "\n")
        found = self.breaches(path, text)
        self.write(path, "\n")
        return found

    def test_neighbours_of_a_room_include_its_face_alone(self):
        self.assertEqual(self.room('#include "floor/attic/attic.h"\n#include "floor/floor.h"\n'), [])
        self.assertEqual(len(self.room('#include "floor/attic/part.h"\n')), 1)
        self.assertEqual(self.room('#include "floor/attic/part.h"\n', "src/floor/attic/a.c"), [])

    def test_insides_are_for_friends(self):
        self.assertEqual(len(self.room('#include "floor/attic/attic_internal.h"\n')), 1)
        self.assertEqual(self.room('#include "floor/attic/attic_internal.h"\n', "src/floor/a.c"), [])

    def test_rooms_have_an_order_and_a_facade_its_place_among_them(self):
        self.assertEqual(len(self.room('#include "floor/floor.h"\n', "src/floor/attic/a.c")), 1)
        self.assertEqual(self.room('#include "floor/floor.h"\n', "src/floor/cellar/a.c"), [])

    def test_a_folder_that_is_no_layer_is_noticed(self):
        self.assertEqual(len(self.breaches("src/shed/a.c", "\n")), 1)

    def test_feature_macros_belong_to_os(self):
        self.assertEqual(len(self.breaches("src/wasm/a.c", "#define _GNU_SOURCE\n")), 1)


class Docs(Tree):
    def cited(self, line):
        self.write("docs/a.md", line + "\n")
        return docs.check(self.root)

    def test_a_function_that_exists_passes(self):
        self.write("src/os/a.c", "dw_status dw_os_go(int x)\n{\n    dw_other(x);\n}\n")
        self.assertEqual(self.cited("first `src/os/a.c:dw_os_go`, in `src/os/a.c`"), ([], 2))

    def test_a_function_that_is_only_called_is_not_there(self):
        self.write("src/os/a.c", "dw_status dw_os_go(int x)\n{\n    dw_other(x);\n}\n")
        self.assertEqual(len(self.cited("`src/os/a.c:dw_other()`")[0]), 1)

    def test_a_file_that_is_gone_is_noticed(self):
        self.assertEqual(len(self.cited("`src/os/gone.c:dw_x`")[0]), 1)

    def test_a_command_that_compiles_guests_has_the_flags_that_keep_state_safe(self):
        command = "clang --target=wasm32-wasi -mexec-model=reactor -Wl,--stack-first a.c"
        self.assertEqual(self.cited(command)[0], [])
        self.assertEqual(len(self.cited(command.replace(" -Wl,--stack-first", ""))[0]), 1)
        self.assertEqual(len(self.cited(command.replace(" -mexec-model=reactor", ""))[0]), 1)


if __name__ == "__main__":
    unittest.main()
