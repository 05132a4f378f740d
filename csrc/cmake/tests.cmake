# Every tests/<floor>/test_*.cc is one executable and one CTest test, <floor>.<name>.
set(tests_dir ${CMAKE_CURRENT_SOURCE_DIR}/../tests)
find_path(DOCTEST_INCLUDE_DIR doctest/doctest.h REQUIRED)

add_library(test_main OBJECT ${tests_dir}/main.cc)
target_include_directories(test_main SYSTEM PUBLIC ${DOCTEST_INCLUDE_DIR})
target_include_directories(test_main PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(test_main PUBLIC pyruntime_options)

# The engine's library, from the wheel beside this Python: found, never imported.
execute_process(OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND ${Python_EXECUTABLE} -c [[
import importlib.util, pathlib
spec = importlib.util.find_spec("onnxruntime")
for folder in spec.submodule_search_locations if spec else ():
    for path in sorted(pathlib.Path(folder, "capi").glob("libonnxruntime.so.*")):
        print(path, end=";")
]])
list(POP_FRONT found onnxruntime)
set(PYRUNTIME_ONNXRUNTIME "${onnxruntime}" CACHE FILEPATH "libonnxruntime.so.* for the tests")
message(STATUS "ONNX Runtime for the tests: ${PYRUNTIME_ONNXRUNTIME}")

# The same with fake providers of a GPU.
add_library(onnxruntime_with_gpu MODULE
  ${tests_dir}/engine/onnxruntime_with_gpu.cc ${tests_dir}/engine/fake_gpu_runs.cc)
target_link_libraries(onnxruntime_with_gpu PRIVATE pyruntime_options ${CMAKE_DL_LIBS})
target_include_directories(onnxruntime_with_gpu PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${tests_dir})

# intercept_tls_get_addr=0: the runtimes of g++ up to 13 and clang up to 16 take some blocks of
# thread-local memory for those of an old glibc, and LeakSanitizer then reads what lies nowhere.
set(environment
  PYRUNTIME_ONNXRUNTIME=${PYRUNTIME_ONNXRUNTIME}
  PYRUNTIME_ONNXRUNTIME_WITH_GPU=$<TARGET_FILE:onnxruntime_with_gpu>
  ORT_DISABLE_TELEMETRY=1
  ASAN_OPTIONS=detect_stack_use_after_return=1:strict_init_order=1:intercept_tls_get_addr=0
  LSAN_OPTIONS=suppressions=${tests_dir}/lsan.supp:print_suppressions=0
  TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=${tests_dir}/tsan.supp
  UBSAN_OPTIONS=print_stacktrace=1)

# Sanitizers of older compilers fail at start where the kernel randomises addresses widely.
set(launcher)
set(timeout 120)
if(PYRUNTIME_SANITIZE)
  set(timeout 300)
  execute_process(COMMAND setarch -R true RESULT_VARIABLE refused OUTPUT_QUIET ERROR_QUIET)
  if(NOT refused)
    set(launcher setarch -R)
  endif()
endif()

# A driver for tests of CUDA devices on machines without a GPU.
file(GLOB fake_cuda_sources CONFIGURE_DEPENDS ${tests_dir}/fake_cuda/*.cc)
add_library(fake_cuda SHARED ${fake_cuda_sources})
set_target_properties(fake_cuda PROPERTIES CXX_VISIBILITY_PRESET hidden)
target_link_libraries(fake_cuda PRIVATE pyruntime_options Threads::Threads)
list(APPEND environment PYRUNTIME_TEST_CUDA_DRIVER=$<TARGET_FILE:fake_cuda>)

# The load generators are no part of the core, but of what measures it.
file(GLOB probe_sources CONFIGURE_DEPENDS probe/*.cc)
add_library(probe STATIC ${probe_sources})
target_link_libraries(probe PRIVATE pyruntime_options PUBLIC core)

foreach(floor IN LISTS floors ITEMS probe)
  file(GLOB sources CONFIGURE_DEPENDS ${tests_dir}/${floor}/test_*.cc)
  foreach(source IN LISTS sources)
    get_filename_component(name ${source} NAME_WE)
    add_executable(${floor}_${name} ${source})
    target_include_directories(${floor}_${name} PRIVATE ${tests_dir})
    target_compile_definitions(${floor}_${name} PRIVATE
      PYRUNTIME_TEST_DATA="${tests_dir}/data" PYRUNTIME_SOURCE_DIR="${tests_dir}/..")
    target_link_libraries(${floor}_${name} PRIVATE core test_main)
    add_dependencies(${floor}_${name} fake_cuda)
    if(floor STREQUAL probe)
      target_link_libraries(${floor}_${name} PRIVATE probe)
    endif()
    if(PYRUNTIME_SANITIZE MATCHES address)
      # Under these sanitizers doctest's macros take GCC three times as long to optimise.
      target_compile_options(${floor}_${name} PRIVATE -O0)
    endif()
    string(REPLACE "test_" "" name ${name})
    add_test(NAME ${floor}.${name} COMMAND ${launcher} $<TARGET_FILE:${floor}_test_${name}>)
    set_tests_properties(${floor}.${name} PROPERTIES
      LABELS ${floor} TIMEOUT ${timeout} ENVIRONMENT "${environment}")
  endforeach()
endforeach()

foreach(test IN ITEMS engine_test_onnx_providers engine_test_onnx_cuda serving_test_model_on_cuda)
  add_dependencies(${test} onnxruntime_with_gpu)
endforeach()

# Ten minutes of the scheduler's stress test, for a nightly run: 6 cases of 100 s.
add_custom_target(stress_nightly
  COMMAND ${CMAKE_COMMAND} -E env ${environment} PYRUNTIME_STRESS_SECONDS=100
    ${launcher} $<TARGET_FILE:schedule_test_stress>
  USES_TERMINAL VERBATIM)
