// Every device that is here, for suites that hold for all of them.
#pragma once

#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include "memory/device.h"

namespace pyruntime::test {

// Calls `check(backend)` as a subcase for each device; says why others are absent.
template <typename Check>
void for_each_device(Check check) {
  for (const BackendEntry& entry : device_backends()) {
    if (entry.device_count() == 0) {
      MESSAGE("skipped: ", std::string(entry.name), ": ", entry.why_absent());
    }
    for (int i = 0; i < entry.device_count(); ++i) {
      DeviceBackend& backend = open_device({entry.kind, static_cast<int16_t>(i)});
      SUBCASE(backend.device().name().c_str()) { check(backend); }
    }
  }
}

// Device or host memory for one test.
class TestMemory {
 public:
  enum class Side : uint8_t { kHost, kDevice };
  TestMemory(DeviceBackend& backend, Side side, std::size_t size_bytes)
      : backend_(backend),
        side_(side),
        size_bytes_(size_bytes),
        address_(side == Side::kHost ? backend.allocate_host(size_bytes)
                                     : backend.allocate(size_bytes)) {}
  ~TestMemory() {
    if (side_ == Side::kHost) {
      backend_.free_host(address_, size_bytes_);
    } else {
      backend_.free(address_, size_bytes_);
    }
  }
  TestMemory(const TestMemory&) = delete;
  TestMemory& operator=(const TestMemory&) = delete;

  void* address() const { return address_; }
  std::size_t size_bytes() const { return size_bytes_; }
  unsigned char* bytes() const { return static_cast<unsigned char*>(address_); }

 private:
  DeviceBackend& backend_;
  const Side side_;
  const std::size_t size_bytes_;
  void* const address_;
};

}  // namespace pyruntime::test
