# pyruntime._core and _probe (pybind11) and pyruntime._hot (Cython), beside the core.
file(GLOB binding_sources CONFIGURE_DEPENDS bindings/*.cc)
list(FILTER binding_sources EXCLUDE REGEX "/(probe|load|floors)\\.cc$")
file(GLOB hot_source CONFIGURE_DEPENDS bindings/hot.pyx)
if((binding_sources OR hot_source) AND NOT Python_Development.Module_FOUND)
  message(FATAL_ERROR "Python ${Python_VERSION}: expected its headers (Python.h), found none; "
    "Debian and Ubuntu ship them as python3-dev")
endif()

function(ask_python result code)
  execute_process(COMMAND ${Python_EXECUTABLE} -c "${code}"
    OUTPUT_VARIABLE output OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(${result} "${output}" PARENT_SCOPE)
endfunction()

if(binding_sources)
  if(NOT pybind11_DIR)
    ask_python(pybind11_DIR "import pybind11; print(pybind11.get_cmake_dir())")
  endif()
  find_package(pybind11 CONFIG REQUIRED)
  pybind11_add_module(_core MODULE NO_EXTRAS ${binding_sources})
  target_link_libraries(_core PRIVATE pyruntime_options core)
  install(TARGETS _core LIBRARY DESTINATION .)

  # A module of its own, which only pyruntime.bench imports.
  file(GLOB probe_sources CONFIGURE_DEPENDS probe/*.cc)
  pybind11_add_module(_probe MODULE NO_EXTRAS ${probe_sources}
    bindings/probe.cc bindings/load.cc bindings/floors.cc bindings/errors.cc bindings/options.cc)
  target_link_libraries(_probe PRIVATE pyruntime_options core)
  install(TARGETS _probe LIBRARY DESTINATION .)
endif()

if(hot_source)
  if(NOT NUMPY_INCLUDE_DIR)
    ask_python(NUMPY_INCLUDE_DIR "import numpy; print(numpy.get_include())")
  endif()
  set(hot_cpp ${CMAKE_CURRENT_BINARY_DIR}/hot.cpp)
  add_custom_command(OUTPUT ${hot_cpp}
    COMMAND ${Python_EXECUTABLE} -m cython -3 --cplus --depfile -Wextra -X autotestdict=False
            --module-name pyruntime._hot -I ${CMAKE_CURRENT_SOURCE_DIR}/bindings
            ${hot_source} -o ${hot_cpp}
    DEPENDS ${hot_source} DEPFILE ${hot_cpp}.dep
    WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR} VERBATIM)
  Python_add_library(_hot MODULE WITH_SOABI ${hot_cpp})
  target_include_directories(_hot SYSTEM PRIVATE ${NUMPY_INCLUDE_DIR})
  target_compile_definitions(_hot PRIVATE NPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION)
  # No pyruntime_options: generated code answers to Cython, not to our warnings.
  target_compile_options(_hot PRIVATE -fvisibility=hidden -w)
  target_link_libraries(_hot PRIVATE core)
  install(TARGETS _hot LIBRARY DESTINATION .)
endif()
