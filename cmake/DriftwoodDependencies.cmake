# What Driftwood uses from outside, as targets named driftwood::<short name>:
#   openssl, jansson, utf8proc, sqlite, threads, wasmtime, ggml, llama, cmocka (tests only)
#
# Wasmtime and llama.cpp come from the prefixes that deps/build.sh makes; the rest are system
# packages. Set DW_WASMTIME_PREFIX and DW_LLAMA_PREFIX to use other builds of them.
set(DW_WASMTIME_PREFIX "" CACHE PATH "where deps/build.sh put Wasmtime (empty: ask it)")
set(DW_LLAMA_PREFIX "" CACHE PATH "where deps/build.sh put ggml and libllama (empty: ask it)")

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
if(NOT dw_wasmtime OR NOT dw_llama)
  execute_process(COMMAND "${CMAKE_SOURCE_DIR}/deps/build.sh" paths
    OUTPUT_VARIABLE dw_paths RESULT_VARIABLE dw_paths_status)
  if(NOT dw_paths_status EQUAL 0)
    message(FATAL_ERROR "deps/build.sh paths failed")
  endif()
  if(NOT dw_wasmtime)
    string(REGEX REPLACE ".*WASMTIME_PREFIX=([^\n]*).*" "\\1" dw_wasmtime "${dw_paths}")
  endif()
  if(NOT dw_llama)
    string(REGEX REPLACE ".*LLAMA_PREFIX=([^\n]*).*" "\\1" dw_llama "${dw_paths}")
  endif()
endif()
foreach(file "${dw_wasmtime}/include/wasmtime.h" "${dw_llama}/driftwood-llama.cmake")
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "${file} does not exist: run deps/build.sh first")
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

include("${dw_llama}/driftwood-llama.cmake") # sets DW_LLAMA_BACKENDS
dw_archive(dw_ggml_base "${dw_llama}" ggml-base CXX)
dw_archive(driftwood::ggml "${dw_llama}" ggml CXX)
target_include_directories(driftwood::ggml INTERFACE "${dw_llama}/include/ggml-private")
foreach(backend ${DW_LLAMA_BACKENDS})
  dw_archive(dw_ggml_${backend} "${dw_llama}" ggml-${backend} CXX)
  target_link_libraries(dw_ggml_${backend} INTERFACE dw_ggml_base)
  target_link_libraries(driftwood::ggml INTERFACE dw_ggml_${backend})
  string(TOUPPER ${backend} upper)
  target_compile_definitions(driftwood::ggml INTERFACE DW_GGML_${upper}=1)
endforeach()
target_link_libraries(driftwood::ggml INTERFACE dw_ggml_base)
target_link_libraries(dw_ggml_base INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)
if(vulkan IN_LIST DW_LLAMA_BACKENDS)
  find_package(Vulkan REQUIRED)
  target_link_libraries(dw_ggml_vulkan INTERFACE Vulkan::Vulkan)
endif()
if(cuda IN_LIST DW_LLAMA_BACKENDS)
  find_package(CUDAToolkit REQUIRED)
  target_link_libraries(dw_ggml_cuda INTERFACE CUDA::cudart CUDA::cublas CUDA::cuda_driver)
endif()
if(metal IN_LIST DW_LLAMA_BACKENDS)
  target_link_libraries(dw_ggml_metal INTERFACE "-framework Foundation" "-framework Metal" "-framework MetalKit")
endif()
dw_archive(driftwood::llama "${dw_llama}" llama CXX)
target_link_libraries(driftwood::llama INTERFACE driftwood::ggml)
