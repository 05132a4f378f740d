# Every benchmarks/bench_*.cc is one executable.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/../benchmarks/bench_*.cc)
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
endif()
