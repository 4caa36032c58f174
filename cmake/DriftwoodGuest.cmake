# Guest programs: <build>/programs/<name>.wasm.
#
#   dw_guest(NAME chat SOURCES chat.c [REACTOR] [EXPORTS extra...] [OPTIONS flags...] [STACK bytes] [STACK_LAST])
#       C, with clang and wasi-libc. A REACTOR exports `_initialize` and `driftwood_receive` and
#       keeps running; without it, a WASI command with `_start`. sdk/c and include/ are on the path.
#       STACK_LAST puts the stack where an overflow is not noticed: to test that Driftwood says so.
#   dw_guest_cxx(...)  the same for C++ without exceptions, run-time types and standard library
#   dw_guest_wat(NAME x SOURCE x.wat [OPTIONS flags...] [NEW])   with wat2wasm; NEW: with
#       tests/support/wat.py, for instructions that wabt does not know. Without DW_PYTHON such a
#       guest is not built, and the tests that want it report themselves as skipped
#   dw_guest_cxx_exceptions(NAME x SOURCE x.cpp)   C++ with exceptions and its standard library, with
#       Zig 0.15 (its Clang, and the sources of libc++abi); where that is missing, nothing is built
#       and the tests that want the program report themselves as skipped
#   dw_guest_go(NAME x SOURCE folder)   with Go >= 1.24; where that is missing, nothing is built
#       and the tests that want the program report themselves as skipped
#
# Each makes a target guest_<name>, part of a plain build.
include_guard(GLOBAL)

set(DW_PROGRAMS_DIR "${CMAKE_BINARY_DIR}/programs")
file(MAKE_DIRECTORY "${DW_PROGRAMS_DIR}")

# dw_try_guest_compiler(CLANG SYSROOT RESULT): can this pair link a reactor?
function(dw_try_guest_compiler clang sysroot result)
  set(folder "${CMAKE_BINARY_DIR}/CMakeFiles/guest-probe")
  file(WRITE "${folder}/probe.c"
    "#include <stdlib.h>\nint driftwood_receive(void);\nint driftwood_receive(void) { return (int)(size_t)malloc(1); }\n")
  execute_process(
    COMMAND "${clang}" --target=wasm32-wasi "--sysroot=${sysroot}" -mexec-model=reactor -O1
      -Wl,--export-if-defined=driftwood_receive probe.c -o probe.wasm
    WORKING_DIRECTORY "${folder}" RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE said)
  if(status EQUAL 0)
    set(${result} TRUE PARENT_SCOPE)
  else()
    set(${result} FALSE PARENT_SCOPE)
    set(dw_guest_said "${dw_guest_said}\n${clang} --sysroot=${sysroot}: ${said}" PARENT_SCOPE)
  endif()
endfunction()

# Finds a clang for wasm32 and the folder of wasi-libc, and remembers both. Debian and Ubuntu keep
# wasi-libc in /usr; Homebrew's llvm and wasi-libc live under its own prefix, where Apple's clang,
# which has no WebAssembly target, must not be taken.
function(dw_find_guest_compiler)
  if(DW_GUEST_CLANG AND DW_GUEST_SYSROOT)
    return()
  endif()
  set(clangs)
  foreach(prefix /opt/homebrew/opt/llvm /usr/local/opt/llvm)
    if(EXISTS "${prefix}/bin/clang")
      list(APPEND clangs "${prefix}/bin/clang")
    endif()
  endforeach()
  foreach(name clang clang-21 clang-20 clang-19 clang-18 clang-17 clang-16 clang-15 clang-14)
    find_program(dw_clang_${name} ${name})
    mark_as_advanced(dw_clang_${name})
    if(dw_clang_${name})
      list(APPEND clangs "${dw_clang_${name}}")
    endif()
  endforeach()
  set(sysroots $ENV{WASI_SYSROOT} /usr /opt/homebrew/share/wasi-sysroot /usr/local/share/wasi-sysroot
    /opt/wasi-sdk/share/wasi-sysroot)
  set(dw_guest_said "")
  foreach(clang ${clangs})
    foreach(sysroot ${sysroots})
      if(EXISTS "${sysroot}/include/wasm32-wasi" OR EXISTS "${sysroot}/include/wasi")
        dw_try_guest_compiler("${clang}" "${sysroot}" works)
        if(works)
          message(STATUS "Guest compiler: ${clang} --sysroot=${sysroot}")
          set(DW_GUEST_CLANG "${clang}" CACHE FILEPATH "clang that can make wasm32-wasi programs")
          set(DW_GUEST_SYSROOT "${sysroot}" CACHE PATH "folder of wasi-libc")
          return()
        endif()
      endif()
    endforeach()
  endforeach()
  message(FATAL_ERROR
    "No clang here can make wasm32-wasi programs. Needed: clang, lld, wasi-libc and compiler-rt "
    "for wasm32 (Debian: libclang-rt-<version>-dev-wasm32). ./run installs them. "
    "-DDW_GUESTS=OFF builds without guests.${dw_guest_said}")
endfunction()

if(DW_GUESTS)
  dw_find_guest_compiler()
endif()
find_program(DW_WAT2WASM wat2wasm)
find_program(DW_GO go)
find_program(DW_ZIG zig)
mark_as_advanced(DW_WAT2WASM DW_GO DW_ZIG)

# What C and C++ have in common; ARGN are the arguments of dw_guest.
function(dw_guest_clang compiler standard)
  cmake_parse_arguments(ARG "REACTOR;STACK_LAST" "NAME;STACK" "SOURCES;EXPORTS;OPTIONS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS OR NOT ARG_NAME OR NOT ARG_SOURCES)
    message(FATAL_ERROR "dw_guest(NAME '${ARG_NAME}'): missing or unknown argument '${ARG_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT DW_GUESTS)
    return()
  endif()
  if(NOT ARG_STACK)
    set(ARG_STACK 262144)
  endif()
  set(sources)
  foreach(source ${ARG_SOURCES})
    get_filename_component(source "${source}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    list(APPEND sources "${source}")
  endforeach()
  set(flags --target=wasm32-wasi "--sysroot=${DW_GUEST_SYSROOT}" ${standard} -O2 -Wall -Wextra
    "-I${CMAKE_SOURCE_DIR}/sdk/c" "-I${CMAKE_SOURCE_DIR}/include")
  if(ARG_REACTOR)
    # With the reactor's own start code, constructors run once, in _initialize; without it every
    # export would run them again.
    list(APPEND flags -mexec-model=reactor)
  endif()
  # The stack lies below the data, so that an overflow traps and does not eat variables.
  set(link -Wl,-z,stack-size=${ARG_STACK} -Wl,--export-if-defined=driftwood_receive)
  if(NOT ARG_STACK_LAST)
    list(APPEND link -Wl,--stack-first)
  endif()
  foreach(export ${ARG_EXPORTS})
    list(APPEND link "-Wl,--export=${export}")
  endforeach()
  # Sources go through the compiler in one call, so one dependency file per program does not exist;
  # headers of the SDK and of the guest ABI are few, and all of them are listed.
  file(GLOB headers CONFIGURE_DEPENDS
    "${CMAKE_SOURCE_DIR}/sdk/c/*.h" "${CMAKE_SOURCE_DIR}/include/driftwood/*.h" "${CMAKE_CURRENT_SOURCE_DIR}/*.h")
  set(output "${DW_PROGRAMS_DIR}/${ARG_NAME}.wasm")
  # CMake sets the deployment target of macOS in the environment, which clang takes amiss here.
  add_custom_command(OUTPUT "${output}"
    COMMAND "${CMAKE_COMMAND}" -E env --unset=MACOSX_DEPLOYMENT_TARGET --unset=SDKROOT
      "${compiler}" ${flags} ${ARG_OPTIONS} ${link} ${sources} -o "${output}"
    DEPENDS ${sources} ${headers} COMMENT "Building guest ${ARG_NAME}.wasm" VERBATIM)
  add_custom_target(guest_${ARG_NAME} ALL DEPENDS "${output}")
endfunction()

function(dw_guest)
  dw_guest_clang("${DW_GUEST_CLANG}" -std=c11 ${ARGN})
endfunction()

function(dw_guest_cxx)
  # The C++ driver is the same program under another name; as an option it needs no second search.
  dw_guest_clang("${DW_GUEST_CLANG}" "--driver-mode=g++;-std=c++17;-fno-exceptions;-fno-rtti;-nostdlib++" ${ARGN})
endfunction()

function(dw_guest_wat)
  cmake_parse_arguments(ARG "NEW" "NAME;SOURCE" "OPTIONS" ${ARGN})
  if(NOT DW_GUESTS)
    return()
  endif()
  if(ARG_NEW AND NOT DW_PYTHON)
    add_custom_target(guest_${ARG_NAME})
    return()
  endif()
  set(assembler "${DW_WAT2WASM}" ${ARG_OPTIONS})
  if(ARG_NEW)
    set(assembler "${DW_PYTHON}" -B "${CMAKE_SOURCE_DIR}/tests/support/wat.py")
    set(arguments)
  else()
    set(arguments -o)
  endif()
  if(NOT DW_WAT2WASM)
    message(FATAL_ERROR "dw_guest_wat(${ARG_NAME}): wat2wasm is missing (package wabt)")
  endif()
  get_filename_component(source "${ARG_SOURCE}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  set(output "${DW_PROGRAMS_DIR}/${ARG_NAME}.wasm")
  add_custom_command(OUTPUT "${output}"
    COMMAND ${assembler} "${source}" ${arguments} "${output}"
    DEPENDS "${source}" COMMENT "Building guest ${ARG_NAME}.wasm" VERBATIM)
  add_custom_target(guest_${ARG_NAME} ALL DEPENDS "${output}")
endfunction()

function(dw_guest_cxx_exceptions)
  cmake_parse_arguments(ARG "" "NAME;SOURCE" "" ${ARGN})
  if(NOT DW_GUESTS)
    return()
  endif()
  if(DW_ZIG AND NOT DEFINED CACHE{DW_ZIG_VERSION})
    execute_process(COMMAND "${DW_ZIG}" version
      OUTPUT_VARIABLE said OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    set(DW_ZIG_VERSION "${said}" CACHE INTERNAL "version of zig")
  endif()
  if(NOT DW_ZIG OR NOT DW_ZIG_VERSION MATCHES "^0\\.15\\.")
    message(STATUS "Guest ${ARG_NAME} is left out: Zig 0.15 is missing; its tests will be skipped")
    return()
  endif()
  get_filename_component(source "${ARG_SOURCE}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  set(script "${CMAKE_SOURCE_DIR}/tests/support/cxx_exceptions.sh")
  set(output "${DW_PROGRAMS_DIR}/${ARG_NAME}.wasm")
  add_custom_command(OUTPUT "${output}"
    COMMAND sh "${script}" "${DW_ZIG}" "${source}" "${output}" "${CMAKE_CURRENT_BINARY_DIR}/${ARG_NAME}"
    DEPENDS "${source}" "${script}" COMMENT "Building guest ${ARG_NAME}.wasm" VERBATIM)
  add_custom_target(guest_${ARG_NAME} ALL DEPENDS "${output}")
endfunction()

function(dw_guest_go)
  cmake_parse_arguments(ARG "" "NAME;SOURCE" "" ${ARGN})
  if(NOT DW_GUESTS)
    return()
  endif()
  if(DW_GO AND NOT DEFINED CACHE{DW_GO_VERSION})
    # GOTOOLCHAIN=local: an older Go must say what it is, not fetch a newer one.
    execute_process(COMMAND "${CMAKE_COMMAND}" -E env GOTOOLCHAIN=local "${DW_GO}" env GOVERSION
      OUTPUT_VARIABLE said OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    string(REGEX REPLACE "^go([0-9.]+).*" "\\1" said "${said}")
    set(DW_GO_VERSION "${said}" CACHE INTERNAL "version of go")
  endif()
  if(NOT DW_GO OR NOT DW_GO_VERSION VERSION_GREATER_EQUAL 1.24)
    message(STATUS "Guest ${ARG_NAME} is left out: Go 1.24 or newer is missing; its tests will be skipped")
    return()
  endif()
  get_filename_component(source "${ARG_SOURCE}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  file(GLOB sources CONFIGURE_DEPENDS "${source}/*.go" "${source}/go.mod")
  set(output "${DW_PROGRAMS_DIR}/${ARG_NAME}.wasm")
  add_custom_command(OUTPUT "${output}"
    COMMAND "${CMAKE_COMMAND}" -E env GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOFLAGS=-trimpath
      "${DW_GO}" build -buildmode=c-shared -o "${output}" .
    WORKING_DIRECTORY "${source}"
    DEPENDS ${sources} COMMENT "Building guest ${ARG_NAME}.wasm" VERBATIM)
  add_custom_target(guest_${ARG_NAME} ALL DEPENDS "${output}")
endfunction()
