# Tests.
#
#   dw_test(NAME SOURCES x_test.c [DEPENDS modules...] [ARGS ...] [ENV "A=B" ...] [LABELS ...]
#           [TIMEOUT seconds] [SERIAL])
#       A cmocka executable, test_<name>, run by ctest as <name>. Exit code 77 = skipped, and shown
#       as such. SERIAL: needs the machine for itself (big memory, all cores).
#   dw_fuzz(NAME SOURCES x_fuzz.c [CORPUS dir] [DEPENDS ...] [RUNS n] [ENV ...] [TIMEOUT s] [SERIAL])
#       LLVMFuzzerTestOneInput with tests/fuzz/driver.c: RUNS mutations of the corpus (default
#       20000), as test fuzz_<name>, label "fuzz".
#   dw_tsan_test(NAME SOURCES ... [MODULES ...])       where DW_HAVE_TSAN
#       The same under the thread sanitizer, which cannot share a process with the address sanitizer: an executable with flags and objects
#       of its own, into which the sources of MODULES are compiled.
#   dw_check(NAME COMMAND ...)
#       A script as a test, started in the source folder.
#
# Every test finds in its environment:
#   DW_TEST_SOURCE     root of the tree              DW_TEST_BUILD     root of the build
#   DW_TEST_PROGRAMS   built guests (NAME.wasm)      DW_TEST_DRIFTWOOD the command line program
#   DW_TEST_MODEL      GGUF, or empty                DW_TEST_PYTHON    Python with safetensors, numpy, or empty
#   DW_TEST_VOCABULARIES  llama.cpp's ggml-vocab-*.gguf, or empty
#   DW_TEST_EMBEDDING_MODEL   GGUF of an encoder, with what it was converted from beside it, or empty
# and runs with Wasmtime's signal handlers in charge (ASAN_OPTIONS) and with Mesa's CPU driver as
# the Vulkan device, so that results do not depend on what graphics hardware a machine has.
# Executables also have them compiled in as string macros of the same names.
include_guard(GLOBAL)

set(DW_VULKAN_ICD "" CACHE FILEPATH "Vulkan driver manifest for tests (empty: Mesa's lavapipe, where found)")
set(dw_icd "${DW_VULKAN_ICD}")
if(NOT dw_icd)
  file(GLOB dw_icds
    /usr/share/vulkan/icd.d/lvp_icd*.json /usr/local/share/vulkan/icd.d/lvp_icd*.json
    /etc/vulkan/icd.d/lvp_icd*.json /opt/homebrew/share/vulkan/icd.d/lvp_icd*.json)
  foreach(icd ${dw_icds})
    # Debian names the manifest after the architecture when it installs several.
    if(NOT dw_icd OR icd MATCHES "${CMAKE_SYSTEM_PROCESSOR}")
      set(dw_icd "${icd}")
    endif()
  endforeach()
endif()

set(dw_places
  "DW_TEST_SOURCE=${CMAKE_SOURCE_DIR}"
  "DW_TEST_BUILD=${CMAKE_BINARY_DIR}"
  "DW_TEST_PROGRAMS=${CMAKE_BINARY_DIR}/programs"
  "DW_TEST_DRIFTWOOD=${CMAKE_BINARY_DIR}/driftwood"
  "DW_TEST_MODEL=${DW_MODEL}"
  "DW_TEST_VOCABULARIES=${DW_VOCABULARIES}"
  "DW_TEST_EMBEDDING_MODEL=${DW_EMBEDDING_MODEL}"
  "DW_TEST_PYTHON=${DW_PYTHON}")
set(dw_test_environment ${dw_places}
  "ASAN_OPTIONS=handle_segv=0:handle_sigill=0:handle_sigfpe=0:handle_sigbus=0:allocator_may_return_null=1"
  "UBSAN_OPTIONS=print_stacktrace=1"
  "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0")
if(dw_icd)
  list(APPEND dw_test_environment
    "VK_ICD_FILENAMES=${dw_icd}" "VK_DRIVER_FILES=${dw_icd}" "GGML_VK_VISIBLE_DEVICES=0")
endif()
set(dw_test_macros)
foreach(place ${dw_places})
  string(REGEX REPLACE "^([A-Z_]+)=(.*)$" "\\1=\"\\2\"" macro "${place}")
  list(APPEND dw_test_macros "${macro}")
endforeach()

# dw_test_properties(NAME LABELS TIMEOUT SERIAL ENV...)
function(dw_test_properties name labels timeout serial)
  if(NOT timeout)
    set(timeout 300)
  endif()
  set_tests_properties(${name} PROPERTIES
    ENVIRONMENT "${dw_test_environment};${ARGN}"
    LABELS "${labels}"
    TIMEOUT ${timeout}
    SKIP_RETURN_CODE 77
    RUN_SERIAL ${serial})
endfunction()

function(dw_test name)
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "SOURCES;DEPENDS;ARGS;ENV;LABELS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "dw_test(${name}): what is '${ARG_UNPARSED_ARGUMENTS}'?")
  endif()
  set(target test_${name})
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE dw_flags driftwood::cmocka)
  target_compile_definitions(${target} PRIVATE ${dw_test_macros})
  target_include_directories(${target} PRIVATE "${CMAKE_SOURCE_DIR}/tests")
  dw_link_modules(${target} PRIVATE ${ARG_DEPENDS})
  add_test(NAME ${name} COMMAND ${target} ${ARG_ARGS})
  dw_test_properties(${name} "${ARG_LABELS}" "${ARG_TIMEOUT}" ${ARG_SERIAL} ${ARG_ENV})
endfunction()

function(dw_fuzz name)
  cmake_parse_arguments(ARG "SERIAL" "CORPUS;RUNS;TIMEOUT" "SOURCES;DEPENDS;ENV;LABELS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "dw_fuzz(${name}): what is '${ARG_UNPARSED_ARGUMENTS}'?")
  endif()
  if(NOT ARG_RUNS)
    set(ARG_RUNS 20000)
  endif()
  set(target fuzz_${name})
  add_executable(${target} ${ARG_SOURCES} "${CMAKE_SOURCE_DIR}/tests/fuzz/driver.c")
  target_link_libraries(${target} PRIVATE dw_flags)
  target_compile_definitions(${target} PRIVATE ${dw_test_macros})
  target_include_directories(${target} PRIVATE "${CMAKE_SOURCE_DIR}/tests")
  dw_link_modules(${target} PRIVATE ${ARG_DEPENDS})
  set(arguments --runs ${ARG_RUNS})
  if(ARG_CORPUS)
    get_filename_component(corpus "${ARG_CORPUS}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    list(APPEND arguments "${corpus}")
  endif()
  add_test(NAME ${target} COMMAND ${target} ${arguments})
  dw_test_properties(${target} "fuzz;${ARG_LABELS}" "${ARG_TIMEOUT}" ${ARG_SERIAL}
    "DW_FUZZ_CRASH=${CMAKE_CURRENT_BINARY_DIR}/${name}.crash" ${ARG_ENV})
endfunction()

function(dw_check name)
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "COMMAND;ENV;LABELS" ${ARGN})
  add_test(NAME ${name} COMMAND ${ARG_COMMAND} WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  dw_test_properties(${name} "${ARG_LABELS}" "${ARG_TIMEOUT}" ${ARG_SERIAL} ${ARG_ENV})
endfunction()

include(CheckCSourceCompiles)
set(CMAKE_REQUIRED_FLAGS "-fsanitize=thread")
check_c_source_compiles("int main(void) { return 0; }" DW_HAVE_TSAN)
unset(CMAKE_REQUIRED_FLAGS)

function(dw_tsan_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;MODULES" ${ARGN})
  set(sources ${ARG_SOURCES})
  foreach(module ${ARG_MODULES})
    string(REPLACE "/" "_" library "dw_${module}")
    get_target_property(folder ${library} SOURCE_DIR)
    get_target_property(files ${library} SOURCES)
    foreach(file ${files})
      list(APPEND sources "${folder}/${file}")
    endforeach()
  endforeach()
  add_executable(test_${name} ${sources})
  target_include_directories(test_${name} PRIVATE "${CMAKE_SOURCE_DIR}/src" "${CMAKE_SOURCE_DIR}/include" "${CMAKE_SOURCE_DIR}/tests")
  target_compile_options(test_${name} PRIVATE -fsanitize=thread -O1 -g -Wall -Wextra -Wconversion -Wshadow)
  target_link_options(test_${name} PRIVATE -fsanitize=thread)
  target_link_libraries(test_${name} PRIVATE OpenSSL::Crypto Threads::Threads)
  if(DW_FAULTS)
    target_compile_definitions(test_${name} PRIVATE DW_FAULTS=1)
  endif()
  add_test(NAME ${name} COMMAND test_${name})
  dw_test_properties(${name} "" 120 FALSE "TSAN_OPTIONS=halt_on_error=1")
endfunction()
