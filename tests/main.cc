// The main() of every C++ test: test files include <doctest/doctest.h> and nothing more.
//
// PYRUNTIME_TEST_CUDA_DRIVER: the CUDA driver, the fake one unless a GPU is to be
// tested; not set: what the system has.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdlib>

#include <doctest/doctest.h>

#include "memory/device_cuda.h"

int main(int argc, char** argv) {
  if (const char* driver = std::getenv("PYRUNTIME_TEST_CUDA_DRIVER")) {
    pyruntime::configure_cuda_driver(driver);
  }
  return doctest::Context(argc, argv).run();
}
