# Flags that every target of ours is compiled with: link to pyruntime_options.
add_library(pyruntime_options INTERFACE)

target_compile_options(pyruntime_options INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wextra-semi -Wvla
  # Fields left out of a designated initialiser keep their defaults: that is what they are for.
  -Wno-missing-field-initializers
  $<$<BOOL:${PYRUNTIME_WARNINGS_ARE_ERRORS}>:-Werror>)

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(pyruntime_options INTERFACE
    # The core calls its own functions directly; clang does so by default.
    -fno-semantic-interposition
    # False alarm on "text" + std::string in GCC 12 (its bug 105651).
    -Wno-restrict)
endif()

if(PYRUNTIME_SANITIZE)
  # Line numbers are all that a report shows, and full debug information compiles slowly.
  set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")
  set(sanitize -fsanitize=${PYRUNTIME_SANITIZE} -fno-sanitize-recover=all)
  target_compile_options(pyruntime_options INTERFACE
    ${sanitize} -fno-omit-frame-pointer
    # GCC's flow analysis is confused by what sanitizers insert.
    -Wno-maybe-uninitialized)
  target_link_options(pyruntime_options INTERFACE ${sanitize})
endif()
