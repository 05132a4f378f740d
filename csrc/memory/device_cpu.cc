// The host itself. A stream has done its work when the call that gave it
// returns, and none of that work can fail: events are always ready and good.
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "memory/device.h"
#include "memory/pages.h"

namespace pyruntime {
namespace {

class CpuEvent final : public Event {
 public:
  bool is_ready() const override { return true; }
  Status wait() override { return {}; }
  Status status() const override { return {}; }
};

class CpuStream final : public Stream {
 public:
  void copy(void* destination, const void* source, std::size_t size_bytes, CopyKind) override {
    if (size_bytes != 0) std::memcpy(destination, source, size_bytes);
  }
  void record(Event&) override {}
  void wait(Event&) override {}
  void call(void (*function)(void* context), void* context) override { function(context); }
  void notify(Event&, void (*function)(void* context), void* context) override {
    function(context);
  }
  Status synchronize() override { return {}; }
};

class CpuBackend final : public DeviceBackend {
 public:
  Device device() const override { return {}; }
  bool is_host_accessible() const override { return true; }

  void* allocate(std::size_t size_bytes) override {
    void* address = map_pages(size_bytes);
    if (address == nullptr) {
      throw Error(ErrorCode::kOverloaded,
                  "device 'cpu': mmap of " + std::to_string(size_bytes) + " bytes, with " +
                      std::to_string(used_bytes_.load(std::memory_order_relaxed)) +
                      " bytes in use: " + std::strerror(errno));
    }
    used_bytes_.fetch_add(page_rounded(size_bytes), std::memory_order_relaxed);
    return address;
  }

  void free(void* address, std::size_t size_bytes) noexcept override {
    if (address == nullptr) return;
    unmap_pages(address, size_bytes);
    used_bytes_.fetch_sub(page_rounded(size_bytes), std::memory_order_relaxed);
  }

  void* allocate_host(std::size_t size_bytes) override { return allocate(size_bytes); }
  void free_host(void* address, std::size_t size_bytes) noexcept override {
    free(address, size_bytes);
  }

  std::unique_ptr<Stream> create_stream() override { return std::make_unique<CpuStream>(); }
  std::unique_ptr<Event> create_event() override { return std::make_unique<CpuEvent>(); }

 private:
  std::atomic<std::size_t> used_bytes_{0};
};

DeviceBackend& open_cpu(int16_t) {
  static CpuBackend& backend = *new CpuBackend;  // never destroyed: buffers may outlive main()
  return backend;
}

}  // namespace

extern const BackendEntry kCpuBackend;
constexpr BackendEntry kCpuBackend{
    .kind = DeviceKind::kCpu,
    .name = "cpu",
    .device_count = [] { return 1; },
    .why_absent = [] { return std::string(); },
    .open = open_cpu,
    .describe = [](int16_t) { return std::string(); },
};

}  // namespace pyruntime
