# Sourced by run and test: makes sure that the machine has what the build needs.
#
#   dw_setup run     what ./run needs
#   dw_setup test    and what the tests need on top
#
# Every need is checked by looking for the thing itself (a program, a library, a file), so tools that
# came from elsewhere count, and a second run costs milliseconds. What is missing is installed by
# the system's package manager, after saying so: apt-get on Debian and Ubuntu (with sudo unless
# root), Homebrew on macOS. On other systems the missing things are named. PATH and the variables of
# rustup are set when Rust needs them.
#
# shellcheck shell=sh

dw_cache=${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}
# What Wasmtime 48 asks for.
dw_rust_minor=95

dw_say() { printf '%s\n' "$*" >&2; }
dw_fail() {
    dw_say "error: $*"
    exit 1
}

dw_have() { command -v "$1" >/dev/null 2>&1; }

# The first file that exists among the arguments (patterns that match nothing stay as they are).
dw_any_file() {
    for file in "$@"; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

dw_library() { dw_have pkg-config && pkg-config --exists "$1"; }

# dw_need CHECK... -- PACKAGE: remembers PACKAGE as missing when CHECK fails.
dw_need() {
    check=
    while [ "$1" != -- ]; do
        check="$check $1"
        shift
    done
    # The words of a check never hold spaces or patterns that could match here.
    # shellcheck disable=SC2086
    $check || dw_missing="$dw_missing $2"
}

# --- Debian and Ubuntu -----------------------------------------------------------------------

# compiler-rt for wasm32 is packaged per clang version.
dw_debian_clang_version() {
    if dw_have clang; then
        clang -dumpversion | cut -d. -f1
    else
        apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1
    fi
}

dw_wasm_runtime() {
    dw_have clang || return 1
    folder=$(clang -print-resource-dir)/lib
    dw_any_file "$folder"/wasi/libclang_rt.builtins-wasm32.a "$folder"/wasm32-unknown-wasi/libclang_rt.builtins.a \
        "$folder"/wasm32-unknown-wasip1/libclang_rt.builtins.a
}

dw_python_can_make_environments() { dw_have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

dw_check_debian() {
    dw_missing=
    dw_need dw_have c++ -- build-essential
    dw_need dw_have cmake -- cmake
    dw_need dw_have ninja -- ninja-build
    dw_need dw_have pkg-config -- pkg-config
    dw_need dw_have clang -- clang
    dw_need dw_have wasm-ld -- lld
    dw_need dw_any_file /usr/include/wasm32-wasi/stdio.h -- wasi-libc
    dw_need dw_wasm_runtime -- "libclang-rt-$(dw_debian_clang_version)-dev-wasm32"
    dw_need dw_library jansson -- libjansson-dev
    dw_need dw_library libutf8proc -- libutf8proc-dev
    dw_need dw_library sqlite3 -- libsqlite3-dev
    dw_need dw_library libcrypto -- libssl-dev
    dw_need dw_library vulkan -- libvulkan-dev
    dw_need dw_have glslc -- glslc
    dw_need dw_any_file /usr/include/spirv/unified1/spirv.hpp -- spirv-headers
    dw_need dw_python_can_make_environments -- python3-venv
    dw_need dw_any_file /etc/ssl/certs/ca-certificates.crt -- ca-certificates
    if [ "$1" = test ]; then
        dw_need dw_library cmocka -- libcmocka-dev
        dw_need dw_have wat2wasm -- wabt
        dw_need dw_any_file /usr/share/vulkan/icd.d/lvp_icd*.json -- mesa-vulkan-drivers
    fi
}

dw_install_debian() {
    root=
    if [ "$(id -u)" != 0 ]; then
        dw_have sudo || dw_fail "these packages are missing, and neither root nor sudo is at hand to install them:$dw_missing"
        root=sudo
    fi
    dw_say "Installing packages with apt-get:$dw_missing"
    log=$dw_cache/apt.log
    mkdir -p "$dw_cache"
    # shellcheck disable=SC2086
    { $root apt-get update -q && $root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $dw_missing; } >"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        dw_fail "apt-get could not install them; the whole log is $log"
    }
}

# --- macOS -----------------------------------------------------------------------------------

dw_check_macos() {
    dw_have cc || dw_fail "the command line tools are missing; run: xcode-select --install"
    dw_have brew || dw_fail "Homebrew is missing; see https://brew.sh"
    brew=$(brew --prefix)
    export OPENSSL_ROOT_DIR="$brew/opt/openssl@3"
    # Homebrew keeps SQLite out of the way of the system's, which has no file for pkg-config.
    export PKG_CONFIG_PATH="$brew/opt/sqlite/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
    dw_missing=
    dw_need dw_have cmake -- cmake
    dw_need dw_have ninja -- ninja
    dw_need dw_have pkg-config -- pkgconf
    dw_need dw_any_file "$brew/opt/llvm/bin/clang" -- llvm
    dw_need dw_any_file "$brew/bin/wasm-ld" "$brew/opt/lld/bin/wasm-ld" -- lld
    dw_need dw_any_file "$brew/opt/wasi-libc" -- wasi-libc
    dw_need dw_any_file "$brew/opt/wasi-runtimes" -- wasi-runtimes
    dw_need dw_library jansson -- jansson
    dw_need dw_library libutf8proc -- utf8proc
    dw_need dw_library sqlite3 -- sqlite
    dw_need dw_any_file "$OPENSSL_ROOT_DIR" -- openssl@3
    dw_need dw_have python3 -- python
    dw_need dw_have rustup -- rustup
    if [ "$1" = test ]; then
        dw_need dw_library cmocka -- cmocka
        dw_need dw_have wat2wasm -- wabt
    fi
}

dw_install_macos() {
    dw_say "Installing packages with Homebrew:$dw_missing"
    # shellcheck disable=SC2086
    brew install -q $dw_missing >&2 || dw_fail "Homebrew could not install them"
}

# --- Rust ------------------------------------------------------------------------------------

dw_rust_is_new() {
    dw_have cargo && dw_have rustc || return 1
    minor=$(rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge "$dw_rust_minor" ]
}

# Order: the Rust that is there; a toolchain of an installed rustup; rustup from the system's
# packages (Debian 13, Ubuntu 24.04, Homebrew). Where there is no package that is new enough the user
# is asked: nothing is fetched from outside of package registries unasked.
dw_setup_rust() {
    # What an earlier run had to choose.
    [ ! -f "$dw_cache/rust.env" ] || . "$dw_cache/rust.env"
    dw_rust_is_new && return 0
    toolchain=1.$dw_rust_minor.0
    mkdir -p "$dw_cache"
    # Homebrew keeps rustup's programs out of the way of its own rust package.
    for folder in /opt/homebrew/opt/rustup/bin /usr/local/opt/rustup/bin; do
        [ ! -x "$folder/rustup" ] || PATH=$folder:$PATH
    done
    if ! dw_have rustup && dw_have apt-get && [ -n "$(apt-cache search --names-only '^rustup$')" ]; then
        dw_missing=' rustup'
        dw_install_debian
    fi
    if dw_have rustup; then
        dw_say "Installing Rust $toolchain with rustup (Wasmtime needs it)"
        rustup toolchain install "$toolchain" --profile minimal --no-self-update >&2 ||
            dw_fail "rustup could not install Rust $toolchain"
        printf 'PATH=%s\nRUSTUP_TOOLCHAIN=%s\nexport PATH RUSTUP_TOOLCHAIN\n' \
            "'$(dirname "$(command -v cargo)")':\$PATH" "$toolchain" >"$dw_cache/rust.env"
    else
        dw_fail "Rust $toolchain or newer is needed (to build Wasmtime), and this system has no package of it:
       install it from https://rustup.rs, then run this again"
    fi
    . "$dw_cache/rust.env"
    dw_rust_is_new || dw_fail "Rust $toolchain or newer is needed; 'rustc --version' says: $(rustc --version 2>&1)"
}

# --- the door --------------------------------------------------------------------------------

dw_setup() {
    if [ "$(uname -s)" = Darwin ]; then
        system=macos
    elif dw_have apt-get; then
        system=debian
    else
        system=other
    fi
    case $system in
        macos)
            dw_check_macos "$1"
            [ -z "$dw_missing" ] || dw_install_macos
            ;;
        debian)
            dw_check_debian "$1"
            [ -z "$dw_missing" ] || dw_install_debian
            ;;
        other)
            dw_check_debian "$1"
            [ -z "$dw_missing" ] || dw_fail "install what these Debian packages hold, then try again:$dw_missing"
            ;;
    esac
    dw_setup_rust
}

# Sets dw_wasmtime_prefix and dw_llama_prefix, having built what was missing.
dw_dependencies() {
    prefixes=$(deps/build.sh paths) || exit 1
    dw_wasmtime_prefix=$(printf '%s\n' "$prefixes" | sed -n 's/^WASMTIME_PREFIX=//p')
    dw_llama_prefix=$(printf '%s\n' "$prefixes" | sed -n 's/^LLAMA_PREFIX=//p')
    if [ ! -d "$dw_wasmtime_prefix" ] || [ ! -d "$dw_llama_prefix" ]; then
        deps/build.sh all
    fi
}

# dw_configure FOLDER OPTIONS...: configures when something that ninja cannot see has changed.
dw_configure() {
    folder=$1
    shift
    wanted=$(printf '%s\n' "$@")
    if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/configured-with" 2>/dev/null)" != "$wanted" ]; then
        mkdir -p "$folder"
        cmake -S . -B "$folder" -G Ninja "$@" >"$folder/configure.log" 2>&1 || {
            cat "$folder/configure.log" >&2
            dw_fail "cmake failed; the log is $folder/configure.log"
        }
        printf '%s\n' "$wanted" >"$folder/configured-with"
    fi
}

# dw_build FOLDER: ninja, one moving line on a terminal, silence elsewhere unless it fails.
dw_build() {
    if [ -t 1 ]; then
        ninja -C "$1" || dw_fail "the build failed"
    else
        ninja -C "$1" >"$1/build.log" 2>&1 || {
            tail -n 60 "$1/build.log" >&2
            dw_fail "the build failed; the whole log is $1/build.log"
        }
    fi
}
