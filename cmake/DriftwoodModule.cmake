# Modules and layers.
#
#   dw_layer(NAME [OUTSIDE openssl wasmtime ...] [FRIENDS layers...])
#       One line a layer, highest first (root file). A layer may be a room of a floor: model/gguf. FRIENDS may include its _internal.h.
#   dw_add_layers()                                   adds src/<layer> of every layer that exists
#   dw_module(NAME SOURCES a.c b.c [DEPENDS base os ...])
#       The static library dw_<name> (dw_model_gguf of model/gguf). DEPENDS names modules; those above it are allowed. What the
#       layer takes from outside is linked by itself. Headers are included from src/ and include/
#       ("base/base.h", "driftwood/guest.h").
#   dw_program(NAME SOURCES a.c ... DEPENDS ...)      an executable at the top of the build folder
include_guard(GLOBAL)

# Every target of ours links this: flags, sanitizers, defines.
add_library(dw_flags INTERFACE)
target_compile_options(dw_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # Texts of errors and reports have fixed room, and a longer one is cut on purpose.
  target_compile_options(dw_flags INTERFACE -Wno-format-truncation)
endif()
if(DW_WERROR)
  target_compile_options(dw_flags INTERFACE -Werror)
endif()
if(DW_SANITIZE)
  target_compile_options(dw_flags INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(dw_flags INTERFACE -fsanitize=address,undefined)
  target_compile_definitions(dw_flags INTERFACE DW_SANITIZE=1)
endif()
if(DW_FAULTS)
  target_compile_definitions(dw_flags INTERFACE DW_FAULTS=1)
endif()
target_link_libraries(dw_flags INTERFACE m)
target_include_directories(dw_flags INTERFACE "${CMAKE_SOURCE_DIR}/src" "${CMAKE_SOURCE_DIR}/include")

define_property(GLOBAL PROPERTY DW_LAYERS BRIEF_DOCS "layers, highest first" FULL_DOCS "layers, highest first")

function(dw_layer name)
  cmake_parse_arguments(ARG "" "" "OUTSIDE;FRIENDS" ${ARGN}) # FRIENDS are for tests/checks/layers.py
  set_property(GLOBAL APPEND PROPERTY DW_LAYERS ${name})
  set_property(GLOBAL PROPERTY DW_OUTSIDE_${name} "${ARG_OUTSIDE}")
endfunction()

function(dw_add_layers)
  get_property(layers GLOBAL PROPERTY DW_LAYERS)
  foreach(layer ${layers})
    if(EXISTS "${CMAKE_SOURCE_DIR}/src/${layer}/CMakeLists.txt")
      add_subdirectory("${CMAKE_SOURCE_DIR}/src/${layer}" "${CMAKE_BINARY_DIR}/src/${layer}")
    endif()
  endforeach()
endfunction()

# dw_link_modules(TARGET SCOPE modules...): links dw_<module>, with a clear message for a wrong name.
function(dw_link_modules target scope)
  get_property(layers GLOBAL PROPERTY DW_LAYERS)
  foreach(module ${ARGN})
    if(TARGET driftwood::${module})
      target_link_libraries(${target} ${scope} driftwood::${module})
    elseif(module IN_LIST layers)
      string(REPLACE "/" "_" library "dw_${module}")
      target_link_libraries(${target} ${scope} ${library})
    else()
      message(FATAL_ERROR "${target}: '${module}' in DEPENDS is neither a module nor a dependency")
    endif()
  endforeach()
endfunction()

function(dw_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "dw_module(${name}): what is '${ARG_UNPARSED_ARGUMENTS}'?")
  endif()
  get_property(layers GLOBAL PROPERTY DW_LAYERS)
  list(FIND layers ${name} own)
  if(own EQUAL -1)
    message(FATAL_ERROR "dw_module(${name}): not a layer; name it with dw_layer in the root CMakeLists.txt")
  endif()
  get_property(outside GLOBAL PROPERTY DW_OUTSIDE_${name})
  foreach(module ${ARG_DEPENDS})
    list(FIND layers ${module} at)
    if(at EQUAL -1)
      if(NOT module IN_LIST outside)
        message(FATAL_ERROR "dw_module(${name}): '${module}' is not a dependency of this layer (root CMakeLists.txt)")
      endif()
    elseif(NOT at LESS own)
      message(FATAL_ERROR "dw_module(${name}): '${module}' is not above '${name}'")
    endif()
  endforeach()
  string(REPLACE "/" "_" library "dw_${name}")
  add_library(${library} STATIC ${ARG_SOURCES})
  target_link_libraries(${library} PUBLIC dw_flags)
  list(APPEND ARG_DEPENDS ${outside})
  list(REMOVE_DUPLICATES ARG_DEPENDS)
  dw_link_modules(${library} PUBLIC ${ARG_DEPENDS})
endfunction()

function(dw_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE dw_flags)
  dw_link_modules(${name} PRIVATE ${ARG_DEPENDS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")
endfunction()
