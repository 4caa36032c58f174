"""scripts/setup.sh: which packages it would install, asked with stand-ins for apt-cache, clang, rustc and cargo."""
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]

# What `apt-cache policy PACKAGE` says is the candidate, per system.
DEBIAN_12 = {"rustc": "1.63.0+dfsg1-2", "rustc-web": "1.96.0+dfsg1-1~deb12u2", "clang": "1:14.0-55.7~deb12u1"}
DEBIAN_13 = {"rustc": "1.85.1+dfsg1-1+deb13u1", "rustc-web": "1.96.0+dfsg1-1~deb13u1+b1", "rustup": "1.27.1-3+b1"}
UBUNTU_24 = {"rustc": "1.75.0+dfsg0ubuntu1-0ubuntu7.4", "rustc-1.89": "1.89.0", "rustc-1.97": "1.97.1",
             "rustup": "1.26.0-5"}
NEWER = {"rustc": "1.99.0+dfsg1-1", "rustc-web": "1.96.0"}
WITHOUT_SECURITY = {"rustc": "1.63.0+dfsg1-2", "rustc-web": "1.85.0+dfsg3-1~deb12u3"}

APT_CACHE = """#!/bin/sh
case $1 in
    policy) sed -n "s/^$2 /  Candidate: /p" "{candidates}" ;;
    search) sed 's/ .*//' "{candidates}" | grep -E "$3" | sed 's/$/ - what it is/' ;;
    depends) printf 'clang\\n  Depends: clang-14\\n' ;;
esac
"""


def shell(command: str, candidates: dict, programs: dict) -> str:
    """Runs a command after setup.sh was read, on a machine with these packages to have and these programs there."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "candidates").write_text("".join(f"{package} {version}\n" for package, version in candidates.items()))
        found = {"apt-cache": APT_CACHE.replace("{candidates}", str(folder / "candidates"))}
        found.update({program: f"#!/bin/sh\necho '{answer}'\n" for program, answer in programs.items()})
        (folder / "bin").mkdir()
        for program, text in found.items():
            (folder / "bin" / program).write_text(text)
            (folder / "bin" / program).chmod(0o755)
        for tool in ("sed", "grep", "sort", "tail", "head", "tr", "cut", "sh"):
            (folder / "bin" / tool).symlink_to(shutil.which(tool, path="/usr/bin:/bin"))
        environment = {"PATH": str(folder / "bin"), "HOME": name, "DRIFTWOOD_CACHE": name}
        done = subprocess.run(["/bin/sh", "-eu", "-c", f". scripts/setup.sh; {command}"], cwd=SOURCE, env=environment,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Rust(unittest.TestCase):
    def test_each_system_gives_what_compiles_fastest(self):
        for system, expected in ((DEBIAN_12, "rustc-web cargo-web"), (DEBIAN_13, "rustup"), (UBUNTU_24, "rustup")):
            self.assertEqual(shell("dw_debian_rust", system, {}), expected)

    def test_a_system_without_rustup_gives_its_own_new_rust_or_nothing(self):
        self.assertEqual(shell("dw_debian_rust", NEWER, {}), "rustc cargo")
        newest = {"rustc": "1.75.0", "rustc-1.97": "1.97.1"}
        self.assertEqual(shell("dw_debian_rust", newest, {}), "rustc-1.97 cargo-1.97")
        self.assertEqual(shell("dw_debian_rust", WITHOUT_SECURITY, {}), "")

    def test_an_old_rust_of_somebody_is_not_taken_away(self):
        old = {"rustc": "rustc 1.63.0", "cargo": "cargo 1.63.0"}
        self.assertEqual(shell("dw_debian_rust", DEBIAN_12, old), "")
        self.assertEqual(shell("dw_debian_rust", UBUNTU_24, old), "rustc-1.97 cargo-1.97")

    def test_a_new_rust_or_rustup_needs_no_package(self):
        ask = "dw_rust_can_be_had && echo yes || echo no"
        self.assertEqual(shell(ask, DEBIAN_12, {"rustc": "rustc 1.96.0 (built)", "cargo": "cargo"}), "yes")
        self.assertEqual(shell(ask, DEBIAN_12, {"rustup": "rustup"}), "yes")
        self.assertEqual(shell(ask, DEBIAN_12, {"rustc": "rustc 1.63.0", "cargo": "cargo"}), "no")


class Packages(unittest.TestCase):
    def test_the_runtime_for_guests_has_the_version_of_clang(self):
        ask = "dw_debian_package clang-runtime-for-wasm32"
        self.assertEqual(shell(ask, DEBIAN_12, {}), "libclang-rt-14-dev-wasm32")
        self.assertEqual(shell(ask, DEBIAN_13, {"clang": "19.1.7"}), "libclang-rt-19-dev-wasm32")

    def test_on_a_bare_machine_what_the_dependencies_need_comes_first(self):
        ask = 'dw_check_debian run; echo "$dw_missing"; echo "$dw_missing_later"'
        first, later = shell(ask, DEBIAN_12, {}).split("\n")
        for need in ("g++", "cmake", "ninja-build", "rust"):
            self.assertIn(need, first.split())
        for need in ("clang", "lld", "wasi-libc", "clang-runtime-for-wasm32"):
            self.assertNotIn(need, first.split())
        self.assertTrue({"clang", "lld", "clang-runtime-for-wasm32"} <= set(later.split()))

    def test_vulkan_needs_nothing_unless_it_is_wanted(self):
        ask = 'DRIFTWOOD_VULKAN=%s; dw_check_debian run; echo "$dw_missing"'
        self.assertNotIn("glslc", shell(ask % 0, DEBIAN_12, {}).split())
        self.assertIn("glslc", shell(ask % 1, DEBIAN_12, {}).split())


if __name__ == "__main__":
    unittest.main()
