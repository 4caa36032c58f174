# Sourced by run and test: makes sure that the machine has what the build needs, and builds it.
#
#   dw_setup run                 what ./run needs
#   dw_setup test                and what the tests need on top
#   dw_dependencies PART...      builds these parts of deps/build.sh where they are missing
#   dw_configure, dw_build       our own sources
#
# Every need is checked by looking for the thing itself (a program, a library, a file), so tools that
# came from elsewhere count, and a second run costs milliseconds. What is missing is installed by
# the system's package manager, after saying so: apt-get on Debian and Ubuntu (with sudo unless
# root), Homebrew on macOS. On other systems the missing things are named. PATH and the variables of
# rustup are set when Rust needs them. Each step that takes long prints its time.
#
# Backends of ggml beside the CPU: DRIFTWOOD_VULKAN, DRIFTWOOD_CUDA and DRIFTWOOD_METAL are 1 (build it), 0 (do
# not) or unset (build it where a device is found, when there is time: see dw_later_backends).
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

# dw_timed NAME WORDS COMMAND...: says WORDS, runs the command, says how long it took.
dw_timed() {
    dw_say "$2"
    dw_name=$1
    shift 2
    dw_started=$(date +%s)
    "$@"
    dw_say "$dw_name: $(($(date +%s) - dw_started)) s"
}

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

dw_wasm_runtime() {
    dw_have clang || return 1
    folder=$(clang -print-resource-dir)/lib
    dw_any_file "$folder"/wasi/libclang_rt.builtins-wasm32.a "$folder"/wasm32-unknown-wasi/libclang_rt.builtins.a \
        "$folder"/wasm32-unknown-wasip1/libclang_rt.builtins.a
}

dw_python_can_make_environments() { dw_have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

# What the dependencies are built with comes first; the rest is installed while they are built (dw_dependencies).
dw_check_debian() {
    dw_missing=
    dw_need dw_have clang -- clang
    dw_need dw_have wasm-ld -- lld
    dw_need dw_any_file /usr/include/wasm32-wasi/stdio.h -- wasi-libc
    dw_need dw_wasm_runtime -- clang-runtime-for-wasm32
    dw_need dw_have pkg-config -- pkg-config
    dw_need dw_library jansson -- libjansson-dev
    dw_need dw_library libutf8proc -- libutf8proc-dev
    dw_need dw_library sqlite3 -- libsqlite3-dev
    dw_need dw_library libcrypto -- libssl-dev
    if [ "$1" = test ]; then
        dw_need dw_library cmocka -- libcmocka-dev
        dw_need dw_have wat2wasm -- wabt
        dw_need dw_any_file /usr/share/vulkan/icd.d/lvp_icd*.json -- mesa-vulkan-drivers
    fi
    dw_missing_later=$dw_missing
    dw_missing=
    dw_need dw_have c++ -- g++
    dw_need dw_have cmake -- cmake
    dw_need dw_have ninja -- ninja-build
    dw_need dw_python_can_make_environments -- python3-venv
    dw_need dw_any_file /etc/ssl/certs/ca-certificates.crt -- ca-certificates
    dw_need dw_rust_can_be_had -- rust
    if dw_wants vulkan; then
        dw_need dw_library vulkan -- pkg-config
        dw_need dw_library vulkan -- libvulkan-dev
        dw_need dw_have glslc -- glslc
        dw_need dw_any_file /usr/include/spirv/unified1/spirv.hpp -- spirv-headers
    fi
}

# Packages whose names differ from release to release; the lists are fresh when this is asked.
dw_debian_package() { # need
    case $1 in
        clang-runtime-for-wasm32)
            if dw_have clang; then
                version=$(clang -dumpversion | cut -d. -f1)
            else
                version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
            fi
            echo "libclang-rt-$version-dev-wasm32"
            ;;
        rust) dw_debian_rust ;;
        *) echo "$1" ;;
    esac
}

dw_debian_minor() { # package -> N of its candidate's version 1.N, or 0
    minor=$(apt-cache policy "$1" | sed -n 's/^ *Candidate: 1\.\([0-9]*\)\..*/\1/p')
    echo "${minor:-0}"
}

# rustup first: a distribution's own compiler takes 1.7 times as long for the same crate (measured: Debian 12's
# rustc-web 1.96 beside the Rust project's 1.95). Then the plain packages, rustc-web (Debian 12; it is kept new for
# browsers), or Ubuntu's newest rustc-1.N. What excludes somebody's rustc or cargo is not asked for.
dw_debian_rust() {
    newest=$(apt-cache search --names-only '^rustc-1\.[0-9]+$' | sed -n 's/^rustc-1\.\([0-9]*\) .*/\1/p' |
        sort -n | tail -n 1)
    none=1
    if dw_have rustc || dw_have cargo; then none=; fi
    if [ "$none" ] && [ -n "$(apt-cache search --names-only '^rustup$')" ]; then
        echo rustup
    elif [ "$(dw_debian_minor rustc)" -ge "$dw_rust_minor" ]; then
        echo rustc cargo
    elif [ "$none" ] && [ "$(dw_debian_minor rustc-web)" -ge "$dw_rust_minor" ]; then
        echo rustc-web cargo-web
    elif [ "${newest:-0}" -ge "$dw_rust_minor" ]; then
        echo "rustc-1.$newest" "cargo-1.$newest"
    fi
}

dw_apt() {
    # What a package would have to take away is somebody's: then nothing is done, and the log says what it was.
    $root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" >>"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        dw_fail "apt-get could not install them; the whole log is $log"
    }
}

dw_install_debian() { # needs...
    root=
    if [ "$(id -u)" != 0 ]; then
        dw_have sudo ||
            dw_fail "these are missing, and neither root nor sudo is at hand to install them: $*"
        root=sudo
    fi
    log=$dw_cache/apt.log
    mkdir -p "$dw_cache"
    dw_timed "package lists" "Reading package lists with apt-get" dw_apt update
    dw_install_packages "$@"
}

dw_install_packages() { # needs...
    packages=
    for need in "$@"; do
        packages="$packages $(dw_debian_package "$need")"
    done
    # shellcheck disable=SC2086
    dw_timed packages "Installing packages with apt-get:$packages" \
        dw_apt install -y --no-remove --no-install-recommends $packages
}

# The same beside other work, right after dw_install_debian: without a question, and without a word when it fails, since
# dw_setup_rest tries again.
dw_install_meanwhile() { # needs...
    root=
    [ "$(id -u)" = 0 ] || root='sudo -n'
    log=$dw_cache/apt.log
    (dw_install_packages "$@") 2>"$dw_cache/meanwhile.log" || return 0
    cat "$dw_cache/meanwhile.log" >&2
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

# True when no package is needed for it. Debian's packages of Rust and rustup exclude each other, so where one
# is there, another is not asked for.
dw_rust_can_be_had() {
    dw_find_rust
    dw_rust_is_new || dw_have rustup
}

# Puts what an earlier run chose, or a version that has a folder of its own (Ubuntu), into PATH.
dw_find_rust() {
    [ ! -f "$dw_cache/rust.env" ] || . "$dw_cache/rust.env"
    dw_rust_is_new && return 0
    # Homebrew keeps rustup's programs out of the way of its own rust package.
    for folder in /opt/homebrew/opt/rustup/bin /usr/local/opt/rustup/bin; do
        [ ! -x "$folder/rustup" ] || PATH=$folder:$PATH
    done
    for folder in /usr/lib/rust-1.*/bin; do
        minor=${folder#/usr/lib/rust-1.}
        minor=${minor%/bin}
        if [ "$minor" != '*' ] && [ "$minor" -ge "$dw_rust_minor" ] && [ -x "$folder/cargo" ]; then
            PATH=$folder:$PATH
            return 0
        fi
    done
}

# Order: the Rust that is there; a package of the system's; a toolchain of rustup. Where there is none that is
# new enough the user is asked: nothing is fetched from outside of package registries unasked.
dw_setup_rust() {
    dw_find_rust
    dw_rust_is_new && return 0
    toolchain=1.$dw_rust_minor.0
    dw_have rustup || dw_fail "Rust $toolchain or newer is needed for Wasmtime, and there is no package to install:
       install it from https://rustup.rs (or, on Debian, rustc-web and cargo-web in the place of rustc
       and cargo), then run this again"
    mkdir -p "$dw_cache"
    dw_timed Rust "Installing Rust $toolchain with rustup (Wasmtime needs it)" dw_install_toolchain
    printf 'PATH=%s\nRUSTUP_TOOLCHAIN=%s\nexport PATH RUSTUP_TOOLCHAIN\n' \
        "'$(dirname "$(command -v cargo)")':\$PATH" "$toolchain" >"$dw_cache/rust.env"
    . "$dw_cache/rust.env"
    dw_rust_is_new || dw_fail "Rust $toolchain or newer is needed; 'rustc --version' says: $(rustc --version 2>&1)"
}

dw_install_toolchain() {
    rustup toolchain install "$toolchain" --profile minimal --no-self-update >&2 ||
        dw_fail "rustup could not install Rust $toolchain; a package of the system's does as well where there is one
       (Debian: rustc-web and cargo-web, Ubuntu: rustc-1.97 and cargo-1.97)"
}

# --- backends of ggml ------------------------------------------------------------------------

# dw_wants BACKEND: it was asked for, or a device for it is here and it was not refused.
dw_wants() {
    case $1 in
        vulkan) asked=${DRIFTWOOD_VULKAN:-} ;;
        cuda) asked=${DRIFTWOOD_CUDA:-} ;;
        metal) asked=${DRIFTWOOD_METAL:-} ;;
    esac
    case $asked in
        '') dw_found "$1" ;;
        0) return 1 ;;
        *) return 0 ;;
    esac
}

dw_found() {
    case $1 in
        # CUDA is preferred where its compiler is at hand.
        vulkan) dw_any_file /dev/dri/renderD* && ! dw_found cuda ;;
        cuda) dw_any_file /dev/nvidia[0-9]* && dw_have nvcc ;;
        metal) [ "$(uname -s)" = Darwin ] ;;
    esac
}

# The backends that were asked for by name, as parts of deps/build.sh.
dw_asked_backends() {
    [ "${DRIFTWOOD_VULKAN:-0}" = 0 ] || echo vulkan
    [ "${DRIFTWOOD_CUDA:-0}" = 0 ] || echo cuda
    [ "${DRIFTWOOD_METAL:-0}" = 0 ] || echo metal
}

# Those that a device was found for and that are not built: the first answer does not wait for them.
dw_later_backends() {
    for backend in vulkan cuda metal; do
        if dw_wants "$backend" && [ ! -d "$(dw_prefix "$backend")" ]; then echo "$backend"; fi
    done
}

# --- the door --------------------------------------------------------------------------------

dw_setup() { # run or test
    dw_for=$1
    dw_missing_later=
    case $(uname -s) in
        Darwin)
            dw_check_macos "$1"
            [ -z "$dw_missing" ] || dw_install_macos
            ;;
        *)
            dw_check_debian "$1"
            dw_have apt-get || [ -z "$dw_missing$dw_missing_later" ] ||
                dw_fail "install what these Debian packages hold, then try again:$dw_missing$dw_missing_later"
            if [ -z "$dw_missing" ]; then
                dw_missing=$dw_missing_later
                dw_missing_later=
            fi
            # shellcheck disable=SC2086
            [ -z "$dw_missing" ] || dw_install_debian $dw_missing
            ;;
    esac
    dw_setup_rust
}

# What dw_install_meanwhile could not do.
dw_setup_rest() {
    [ -n "$dw_missing_later" ] || return 0
    dw_check_debian "$dw_for"
    # shellcheck disable=SC2086
    [ -z "$dw_missing$dw_missing_later" ] || dw_install_debian $dw_missing $dw_missing_later
    dw_missing_later=
}

dw_upper() { printf '%s' "$1" | tr '[:lower:]' '[:upper:]'; }

dw_prefix() { # part
    name=$1
    [ "$name" != cpu ] || name=llama
    printf '%s\n' "$dw_prefixes" | sed -n "s/^$(dw_upper "$name")_PREFIX=//p"
}

# dw_dependencies PART...: builds what is missing of Wasmtime, ggml for the CPU and these parts. What stands in
# dw_fetch, a command line, is done meanwhile, and packages that are needed later are installed.
dw_dependencies() {
    dw_prefixes=$(deps/build.sh paths) || exit 1
    dw_parts=
    for part in wasmtime cpu "$@"; do
        [ -d "$(dw_prefix "$part")" ] || dw_parts="$dw_parts $part"
    done
    # Children of xargs, and not of & in a shell, so that an interrupt reaches them.
    {
        printf '%s\0' : # so that there is one
        [ -z "$dw_parts" ] || printf '%s\0' "deps/build.sh$dw_parts"
        [ -z "${dw_fetch:-}" ] || printf '%s\0' "$dw_fetch"
        [ -z "$dw_missing_later" ] ||
            printf '%s\0' ". scripts/setup.sh && dw_install_meanwhile $dw_missing_later"
    } | xargs -0 -n 1 -P 4 sh -c >&2 || exit 1
    dw_setup_rest
}

# dw_configure FOLDER OPTIONS...: configures when something that ninja cannot see has changed. What
# dw_dependencies built is linked, with every backend that is wanted and there.
dw_configure() {
    folder=$1
    shift
    set -- "$@" "-DDW_WASMTIME_PREFIX=$(dw_prefix wasmtime)" "-DDW_LLAMA_PREFIX=$(dw_prefix cpu)"
    for backend in vulkan cuda metal; do
        prefix=
        if dw_wants "$backend" && [ -d "$(dw_prefix "$backend")" ]; then prefix=$(dw_prefix "$backend"); fi
        set -- "$@" "-DDW_$(dw_upper "$backend")_PREFIX=$prefix"
    done
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
