#include "memory/device_simulated.h"

#include <memory>
#include <string>

#include "memory/device.h"
#include "memory/simulated_memory.h"
#include "memory/simulated_stream.h"

namespace pyruntime {
namespace {

class SimulatedBackend final : public DeviceBackend {
 public:
  explicit SimulatedBackend(int16_t index) : index_(index), memory_(index) {}

  Device device() const override { return {DeviceKind::kSimulated, index_}; }
  bool is_host_accessible() const override { return false; }

  void* allocate(std::size_t size_bytes) override { return memory_.allocate(size_bytes); }
  void free(void* address, std::size_t size_bytes) noexcept override {
    memory_.free(address, size_bytes);
  }
  void* allocate_host(std::size_t size_bytes) override { return memory_.allocate_host(size_bytes); }
  void free_host(void* address, std::size_t size_bytes) noexcept override {
    memory_.free_host(address, size_bytes);
  }

  std::unique_ptr<Stream> create_stream() override {
    return std::make_unique<SimulatedStream>(memory_);
  }
  std::unique_ptr<Event> create_event() override { return std::make_unique<SimulatedEvent>(); }

  SimulatedMemory& memory() { return memory_; }

 private:
  const int16_t index_;
  SimulatedMemory memory_;
};

SimulatedBackend& backend_of(int16_t index) {
  static_assert(kSimulatedDevices == 2);
  // Never destroyed: buffers may outlive main().
  static auto* const backends =
      new SimulatedBackend[kSimulatedDevices]{SimulatedBackend(0), SimulatedBackend(1)};
  if (index < 0 || index >= kSimulatedDevices) {
    throw Error(ErrorCode::kInvalidInput, "simulated device: expected an index below " +
                                              std::to_string(kSimulatedDevices) + ", got " +
                                              std::to_string(index));
  }
  return backends[index];
}

}  // namespace

void set_simulated_faults(int16_t index, const SimulatedFaults& faults) {
  backend_of(index).memory().set_faults(faults);
}

uint64_t simulated_misuse_count(int16_t index) { return backend_of(index).memory().misuse_count(); }

uint64_t simulated_used_bytes(int16_t index) { return backend_of(index).memory().used_bytes(); }

extern const BackendEntry kSimulatedBackend;
constexpr BackendEntry kSimulatedBackend{
    .kind = DeviceKind::kSimulated,
    .name = "simulated",
    .device_count = [] { return int{kSimulatedDevices}; },
    .why_absent = [] { return std::string(); },
    .open = [](int16_t index) -> DeviceBackend& { return backend_of(index); },
    .describe = [](int16_t) { return std::string(); },
};

}  // namespace pyruntime
