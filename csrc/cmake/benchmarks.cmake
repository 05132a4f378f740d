# Every benchmarks/bench_*.cc is one executable, as is every one of benchmarks/gpu.
set(benchmarks_dir ${CMAKE_CURRENT_SOURCE_DIR}/../benchmarks)
file(GLOB sources CONFIGURE_DEPENDS
  ${benchmarks_dir}/bench_*.cc ${benchmarks_dir}/gpu/bench_*.cc)
add_custom_target(benchmarks)
foreach(source IN LISTS sources)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE pyruntime_options core)
  add_dependencies(benchmarks ${name})
endforeach()

# That they run is a test; how fast is not. Short, so the figures mean nothing.
if(PYRUNTIME_BUILD_TESTS)
  set(bench_overload_options --seconds 0.02 --turns 1)
  set(bench_fairness_options --seconds 0.02 --turns 1)
  set(bench_routing_options --seconds 0.02 --turns 1)
  set(bench_concurrency_options --model mlp_64_256_256_10 --turns 1)
  foreach(name bench_overload bench_fairness bench_concurrency bench_routing)
    string(REPLACE "bench_" "benchmarks." test ${name})
    add_test(NAME ${test} COMMAND ${launcher} $<TARGET_FILE:${name}> ${${name}_options})
    set_tests_properties(${test} PROPERTIES
      LABELS benchmarks TIMEOUT ${timeout} ENVIRONMENT "${environment}")
  endforeach()

  # Each of its figures on the fake driver, over the fake CUDA provider of ONNX Runtime.
  add_dependencies(bench_gpu fake_cuda onnxruntime_with_gpu)
  set(gpu_environment ${environment}
    PYRUNTIME_ONNXRUNTIME=$<TARGET_FILE:onnxruntime_with_gpu>
    PYRUNTIME_REAL_ONNXRUNTIME=${PYRUNTIME_ONNXRUNTIME})
  set(few --mib 0.5 --rows 4 --turns 1)
  add_test(NAME benchmarks.gpu COMMAND ${launcher} $<TARGET_FILE:bench_gpu> ${few})
  set_tests_properties(benchmarks.gpu PROPERTIES
    LABELS benchmarks TIMEOUT ${timeout} ENVIRONMENT "${gpu_environment}"
    FAIL_REGULAR_EXPRESSION "SKIPPED;bench_gpu: ")
  add_test(NAME benchmarks.gpu_simulated COMMAND ${launcher} $<TARGET_FILE:bench_gpu>
    --device simulated:0 ${few})
  set_tests_properties(benchmarks.gpu_simulated PROPERTIES
    LABELS benchmarks TIMEOUT ${timeout} ENVIRONMENT "${gpu_environment}"
    PASS_REGULAR_EXPRESSION "small_row_graph\", \"verdict\": \"SKIPPED\"")
  add_test(NAME benchmarks.gpu_absent COMMAND ${launcher} $<TARGET_FILE:bench_gpu>)
  set_tests_properties(benchmarks.gpu_absent PROPERTIES
    LABELS benchmarks TIMEOUT ${timeout} ENVIRONMENT PYRUNTIME_CUDA_DRIVER=/nowhere/libcuda.so.1
    PASS_REGULAR_EXPRESSION "pinned_to_host\", \"verdict\": \"SKIPPED\"")
endif()
