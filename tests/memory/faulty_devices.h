// Devices beside the host whose faults a test can choose: the simulated ones, and
// CUDA's where its driver is the fake one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "memory/device.h"
#include "memory/device_simulated.h"
#include "memory/fake_driver.h"

namespace pyruntime::test {

// Device 0 of its kind; there is a device 1 beside it.
struct FaultyDevice {
  Device device;
  void (*set_faults)(const SimulatedFaults& faults);
  uint64_t (*misuse_count)();
  uint64_t (*used_bytes)();

  Device other() const { return {device.kind, 1}; }
};

inline std::vector<FaultyDevice> faulty_devices() {
  std::vector<FaultyDevice> devices;
  devices.push_back({{DeviceKind::kSimulated, 0},
                     [](const SimulatedFaults& faults) { set_simulated_faults(0, faults); },
                     [] { return simulated_misuse_count(0); },
                     [] { return simulated_used_bytes(0); }});
  if (fake_driver() == nullptr) {
    MESSAGE("skipped: CUDA, whose driver is not the fake one");
    return devices;
  }
  devices.push_back({{DeviceKind::kCuda, 0},
                     [](const SimulatedFaults& faults) {
                       fake_driver()->set_faults(0, {.delay_us = faults.delay.count(),
                                                     .delay_jitter_us = faults.delay_jitter.count(),
                                                     .fail_after = faults.fail_after,
                                                     .stall_after = faults.stall_after,
                                                     .memory_bytes = faults.memory_bytes});
                     },
                     [] { return fake_driver()->misuse_count(); },
                     [] { return fake_driver()->used_bytes(0); }});
  return devices;
}

// Calls `check(device)` as a subcase for each.
inline void for_each_faulty_device(const std::function<void(const FaultyDevice&)>& check) {
  for (const FaultyDevice& faulty : faulty_devices()) {
    SUBCASE(faulty.device.name().c_str()) { check(faulty); }
  }
}

// Heals the device at its end.
class Faults {
 public:
  Faults(const FaultyDevice& device, const SimulatedFaults& faults) : device_(device) {
    device_.set_faults(faults);
  }
  ~Faults() { device_.set_faults({}); }
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

 private:
  const FaultyDevice device_;
};

// The host, and the first device of each other kind that is here.
inline std::vector<Device> a_device_of_each_kind() {
  std::vector<Device> devices;
  for (const BackendEntry& entry : device_backends()) {
    if (entry.device_count() > 0) devices.push_back({entry.kind, 0});
  }
  return devices;
}

}  // namespace pyruntime::test
