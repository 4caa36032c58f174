# What Driftwood uses from outside, as targets named driftwood::<short name>:
#   openssl, jansson, utf8proc, sqlite, threads, wasmtime, ggml, llama (its vocabulary);
#   cmocka (tests only), oracle (libllama whole, for tests and benchmarks)
#
# Wasmtime and llama.cpp come from the prefixes that deps/build.sh makes; the rest are system
# packages. Set DW_WASMTIME_PREFIX and DW_LLAMA_PREFIX to use other builds of them.
set(DW_WASMTIME_PREFIX "" CACHE PATH "where deps/build.sh put Wasmtime (empty: ask it)")
set(DW_LLAMA_PREFIX "" CACHE PATH "where deps/build.sh put ggml and libllama's vocabulary (empty: ask it)")
set(DW_ORACLE_PREFIX "" CACHE PATH "where deps/build.sh put libllama whole (empty: ask it)")
set(backends vulkan cuda metal)
foreach(backend ${backends})
  string(TOUPPER ${backend} upper)
  set(DW_${upper}_PREFIX "" CACHE PATH "where deps/build.sh put ggml's ${backend} backend (empty: without it)")
endforeach()

find_package(Threads REQUIRED)
find_package(OpenSSL 1.1.1 REQUIRED COMPONENTS Crypto)
find_package(PkgConfig REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.13)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc>=2.4)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3>=3.37)

add_library(driftwood_openssl INTERFACE)
target_link_libraries(driftwood_openssl INTERFACE OpenSSL::Crypto)
add_library(driftwood::openssl ALIAS driftwood_openssl)

add_library(driftwood_jansson INTERFACE)
target_link_libraries(driftwood_jansson INTERFACE PkgConfig::JANSSON)
add_library(driftwood::jansson ALIAS driftwood_jansson)

add_library(driftwood_utf8proc INTERFACE)
target_link_libraries(driftwood_utf8proc INTERFACE PkgConfig::UTF8PROC)
add_library(driftwood::utf8proc ALIAS driftwood_utf8proc)

add_library(driftwood_sqlite INTERFACE)
target_link_libraries(driftwood_sqlite INTERFACE PkgConfig::SQLITE)
add_library(driftwood::sqlite ALIAS driftwood_sqlite)

add_library(driftwood_threads INTERFACE)
target_link_libraries(driftwood_threads INTERFACE Threads::Threads)
add_library(driftwood::threads ALIAS driftwood_threads)

if(DW_TESTS)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka>=1.1)
  add_library(driftwood_cmocka INTERFACE)
  target_link_libraries(driftwood_cmocka INTERFACE PkgConfig::CMOCKA)
  add_library(driftwood::cmocka ALIAS driftwood_cmocka)
endif()

# Where the built dependencies are: what the caller said, else what deps/build.sh says.
set(dw_wasmtime "${DW_WASMTIME_PREFIX}")
set(dw_llama "${DW_LLAMA_PREFIX}")
set(dw_oracle "${DW_ORACLE_PREFIX}")
if(NOT dw_wasmtime OR NOT dw_llama OR NOT dw_oracle)
  execute_process(COMMAND "${CMAKE_SOURCE_DIR}/deps/build.sh" paths
    OUTPUT_VARIABLE dw_paths RESULT_VARIABLE dw_paths_status)
  if(NOT dw_paths_status EQUAL 0)
    message(FATAL_ERROR "deps/build.sh paths failed")
  endif()
  foreach(part wasmtime llama oracle)
    if(NOT dw_${part})
      string(TOUPPER ${part} upper)
      string(REGEX REPLACE ".*${upper}_PREFIX=([^\n]*).*" "\\1" dw_${part} "${dw_paths}")
    endif()
  endforeach()
endif()
set(dw_files "${dw_wasmtime}/include/wasmtime.h" "${dw_llama}/include/llama-vocabulary.h")
if(DW_TESTS OR DW_BENCH)
  list(APPEND dw_files "${dw_oracle}/lib/libllama.a")
endif()
foreach(file ${dw_files})
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "${file} does not exist: run deps/build.sh first (tests: deps/build.sh wasmtime cpu oracle)")
  endif()
endforeach()
message(STATUS "Wasmtime: ${dw_wasmtime}")
message(STATUS "llama.cpp: ${dw_llama}")

# dw_archive(TARGET PREFIX ARCHIVE LANGUAGE): an imported static library.
function(dw_archive target prefix archive language)
  add_library(${target} STATIC IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES
    IMPORTED_LOCATION "${prefix}/lib/lib${archive}.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES ${language}
    INTERFACE_INCLUDE_DIRECTORIES "${prefix}/include")
endfunction()

dw_archive(driftwood::wasmtime "${dw_wasmtime}" driftwood_wasmtime C)
target_link_libraries(driftwood::wasmtime INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)

dw_archive(dw_ggml_base "${dw_llama}" ggml-base CXX)
dw_archive(driftwood::ggml "${dw_llama}" ggml CXX)
target_include_directories(driftwood::ggml INTERFACE "${dw_llama}/include/ggml-private")
set(DW_CPU_PREFIX "${dw_llama}")
foreach(backend cpu ${backends})
  string(TOUPPER ${backend} upper)
  if(NOT DW_${upper}_PREFIX OR backend STREQUAL "cuda")
    continue()
  endif()
  message(STATUS "ggml's ${backend} backend: ${DW_${upper}_PREFIX}")
  dw_archive(dw_ggml_${backend} "${DW_${upper}_PREFIX}" ggml-${backend} CXX)
  set_property(TARGET dw_ggml_${backend} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "")
  target_link_libraries(dw_ggml_${backend} INTERFACE dw_ggml_base)
  target_link_libraries(driftwood::ggml INTERFACE dw_ggml_${backend})
  target_compile_definitions(driftwood::ggml INTERFACE DW_GGML_${upper}=1)
endforeach()
target_link_libraries(driftwood::ggml INTERFACE dw_ggml_base)
target_link_libraries(dw_ggml_base INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)
if(DW_VULKAN_PREFIX)
  find_package(Vulkan REQUIRED)
  target_link_libraries(dw_ggml_vulkan INTERFACE Vulkan::Vulkan)
endif()
if(DW_CUDA_PREFIX)
  # A module that is looked for while the program runs, beside it and in the prefix. Its ggml is the program's: so all
  # of ggml-base is linked, and seen from outside.
  message(STATUS "ggml's cuda backend: ${DW_CUDA_PREFIX}")
  set(CMAKE_BUILD_RPATH "$ORIGIN;${DW_CUDA_PREFIX}/lib")
  target_compile_definitions(driftwood::ggml INTERFACE DW_GGML_CUDA=1)
  target_link_options(driftwood::ggml INTERFACE -rdynamic
    "SHELL:-Wl,--whole-archive ${dw_llama}/lib/libggml-base.a -Wl,--no-whole-archive")
endif()
if(DW_METAL_PREFIX)
  target_link_libraries(dw_ggml_metal INTERFACE "-framework Foundation" "-framework Metal" "-framework MetalKit")
endif()
dw_archive(driftwood::llama "${dw_llama}" llama-vocabulary CXX)
target_link_libraries(driftwood::llama INTERFACE driftwood::ggml)

if(DW_TESTS OR DW_BENCH)
  # Beside driftwood::llama: both hold the vocabulary, the same object files, and the linker takes the first it meets.
  dw_archive(driftwood::oracle "${dw_oracle}" llama CXX)
  set_property(TARGET driftwood::oracle PROPERTY INTERFACE_INCLUDE_DIRECTORIES "")
  target_link_libraries(driftwood::oracle INTERFACE driftwood::llama)
endif()
