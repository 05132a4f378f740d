#include "memory/device_cuda.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memory/cuda_context.h"
#include "memory/cuda_driver.h"
#include "memory/cuda_stream.h"
#include "memory/device.h"
#include "memory/numa.h"

namespace pyruntime {
namespace {

class CudaBackend final : public DeviceBackend {
 public:
  CudaBackend(const cuda::Driver& driver, int16_t index);

  Device device() const override { return context_.device(); }
  bool is_host_accessible() const override { return false; }

  void* allocate(std::size_t size_bytes) override;
  void free(void* address, std::size_t size_bytes) noexcept override;
  void* allocate_host(std::size_t size_bytes) override;
  void free_host(void* address, std::size_t size_bytes) noexcept override;

  std::unique_ptr<Stream> create_stream() override {
    return std::make_unique<CudaStream>(context_);
  }
  std::unique_ptr<Event> create_event() override { return std::make_unique<CudaEvent>(context_); }

  Status record_foreign(void* stream, Event& event) override;
  void* open_shared(std::span<const std::byte> handle, std::size_t size_bytes) override;
  void close_shared(void* address) noexcept override;

  const CudaContext& context() const { return context_; }

 private:
  [[noreturn]] void throw_failed(const char* call, cuda::Result result,
                                 std::size_t size_bytes) const;

  // Constant after construction.
  const CudaContext context_;
  const cuda::Driver& driver_;
  int numa_node_ = -1;
  // Of the allocator alone, nullptr where the driver has none in stream order.
  // Freeing in the order of a stream waits for no other stream, cuMemFree() for
  // the whole GPU, other models' runs included.
  cuda::Stream memory_stream_ = nullptr;
};

CudaBackend::CudaBackend(const cuda::Driver& driver, int16_t index)
    : context_(driver, index), driver_(driver) {
  std::array<char, 32> bus_id{};
  if (context_.call(driver.cuDeviceGetPCIBusId, bus_id.data(), static_cast<int>(bus_id.size()),
                    context_.handle()) == cuda::kSuccess) {
    numa_node_ = numa_node_of_pci_device(bus_id.data());
  }
  int has_pools = 0;
  if (driver.cuMemAllocAsync.function == nullptr || driver.cuMemFreeAsync.function == nullptr ||
      context_.call(driver.cuDeviceGetAttribute, &has_pools, cuda::kMemoryPoolsSupported,
                    context_.handle()) != cuda::kSuccess ||
      has_pools == 0) {
    return;
  }
  context_.check(driver.cuStreamCreate, &memory_stream_, cuda::kStreamNonBlocking)
      .throw_if_failed();
}

void CudaBackend::throw_failed(const char* call, cuda::Result result,
                               std::size_t size_bytes) const {
  const Status failure = context_.failure(call, result);
  if (result != cuda::kOutOfMemory) throw Error(failure);
  std::string text = failure.message() + ", for " + std::to_string(size_bytes) + " bytes";
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  if (context_.call(driver_.cuMemGetInfo, &free_bytes, &total_bytes) == cuda::kSuccess) {
    text += ": " + std::to_string(total_bytes - free_bytes) + " in use on the device of " +
            std::to_string(total_bytes);
  }
  throw Error(ErrorCode::kOverloaded, std::move(text));
}

void* CudaBackend::allocate(std::size_t size_bytes) {
  cuda::DevicePointer address = 0;
  const std::size_t wanted = std::max<std::size_t>(size_bytes, 1);
  if (memory_stream_ == nullptr) {
    const cuda::Result result = context_.call(driver_.cuMemAlloc, &address, wanted);
    if (result != cuda::kSuccess) throw_failed(driver_.cuMemAlloc.name, result, size_bytes);
    return std::bit_cast<void*>(address);
  }
  cuda::Result result = context_.call(driver_.cuMemAllocAsync, &address, wanted, memory_stream_);
  if (result != cuda::kSuccess) throw_failed(driver_.cuMemAllocAsync.name, result, size_bytes);
  // From here on it is good for every stream.
  result = context_.call(driver_.cuStreamSynchronize, memory_stream_);
  if (result != cuda::kSuccess) throw_failed(driver_.cuStreamSynchronize.name, result, size_bytes);
  return std::bit_cast<void*>(address);
}

void CudaBackend::free(void* address, std::size_t) noexcept {
  if (address == nullptr) return;
  const auto pointer = reinterpret_cast<cuda::DevicePointer>(address);
  if (memory_stream_ == nullptr) {
    context_.log_failure(driver_.cuMemFree.name, context_.call(driver_.cuMemFree, pointer));
    return;
  }
  context_.log_failure(driver_.cuMemFreeAsync.name,
                       context_.call(driver_.cuMemFreeAsync, pointer, memory_stream_));
  // The driver's pool gives memory back when a stream is synchronised.
  context_.log_failure(driver_.cuStreamSynchronize.name,
                       context_.call(driver_.cuStreamSynchronize, memory_stream_));
}

void* CudaBackend::allocate_host(std::size_t size_bytes) {
  const PreferNumaNode near(numa_node_);
  void* address = nullptr;
  // Portable: pinned for every GPU of the process.
  const cuda::Result result =
      context_.call(driver_.cuMemHostAlloc, &address, std::max<std::size_t>(size_bytes, 1),
                    cuda::kHostAllocPortable);
  if (result != cuda::kSuccess) throw_failed(driver_.cuMemHostAlloc.name, result, size_bytes);
  return address;
}

void CudaBackend::free_host(void* address, std::size_t) noexcept {
  if (address == nullptr) return;
  context_.log_failure(driver_.cuMemFreeHost.name, context_.call(driver_.cuMemFreeHost, address));
}

Status CudaBackend::record_foreign(void* stream, Event& event) {
  auto& own = dynamic_cast<CudaEvent&>(event);
  Status status =
      context_.check(driver_.cuEventRecord, own.handle(), static_cast<cuda::Stream>(stream));
  if (!status.ok()) return {ErrorCode::kInvalidInput, status.message()};
  own.recorded({});
  return status;
}

void* CudaBackend::open_shared(std::span<const std::byte> handle, std::size_t size_bytes) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::kInvalidInput, "device '" + device().name() + "': " + what);
  };
  cuda::IpcMemHandle ipc_handle{};
  if (handle.size() != sizeof(ipc_handle)) {
    refuse("expected a cudaIpcMemHandle_t of 64 bytes, got " + std::to_string(handle.size()));
  }
  std::memcpy(&ipc_handle, handle.data(), sizeof(ipc_handle));
  cuda::DevicePointer address = 0;
  const auto check = [&](const auto& call, auto... arguments) {
    const cuda::Result result = context_.call(call, arguments...);
    if (result == cuda::kSuccess) return;
    if (address != 0) close_shared(std::bit_cast<void*>(address));
    throw Error(ErrorCode::kInvalidInput, context_.failure(call.name, result).message());
  };
  check(driver_.cuIpcOpenMemHandle, &address, ipc_handle, cuda::kIpcLazyEnablePeerAccess);
  cuda::DevicePointer begin = 0;
  std::size_t range_bytes = 0;
  check(driver_.cuMemGetAddressRange, &begin, &range_bytes, address);
  if (size_bytes > range_bytes - (address - begin)) {
    close_shared(std::bit_cast<void*>(address));
    refuse("expected at most the " + std::to_string(range_bytes) + " bytes of the handle, got " +
           std::to_string(size_bytes));
  }
  return std::bit_cast<void*>(address);
}

void CudaBackend::close_shared(void* address) noexcept {
  context_.log_failure(
      driver_.cuIpcCloseMemHandle.name,
      context_.call(driver_.cuIpcCloseMemHandle, reinterpret_cast<cuda::DevicePointer>(address)));
}

CudaBackend& open_cuda_backend(int16_t index) {
  struct Opened {
    std::mutex mutex;
    std::vector<std::unique_ptr<CudaBackend>> backends;  // guarded by the mutex
  };
  static auto& opened = *new Opened;  // never destroyed: buffers may outlive main()
  const cuda::Driver& driver = cuda::driver();
  const std::lock_guard lock(opened.mutex);
  opened.backends.resize(static_cast<std::size_t>(driver.device_count));
  auto& backend = opened.backends.at(static_cast<std::size_t>(index));
  if (backend == nullptr) backend = std::make_unique<CudaBackend>(driver, index);
  return *backend;
}

DeviceBackend& open_cuda(int16_t index) { return open_cuda_backend(index); }

int count_cuda() {
  try {
    return cuda::driver().device_count;
  } catch (const Error&) {
    return 0;
  }
}

std::string why_cuda_absent() {
  try {
    (void)cuda::driver();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

// "NVIDIA H200, 139.8 GiB, CUDA 13.0"
std::string describe_cuda(int16_t index) {
  const cuda::Driver& driver = cuda::driver();
  cuda::DeviceHandle device = 0;
  std::array<char, 256> name{};
  std::size_t bytes = 0;
  if (driver.cuDeviceGet.function(&device, index) != cuda::kSuccess ||
      driver.cuDeviceGetName.function(name.data(), static_cast<int>(name.size()), device) !=
          cuda::kSuccess ||
      driver.cuDeviceTotalMem.function(&bytes, device) != cuda::kSuccess) {
    return {};
  }
  std::array<char, 64> facts{};
  std::snprintf(facts.data(), facts.size(), ", %.1f GiB, CUDA %d.%d",
                static_cast<double>(bytes) / (1U << 30U), driver.version / 1000,
                driver.version % 1000 / 10);
  return std::string(name.data()) + facts.data();
}

}  // namespace

Device cuda_device_of(const void* address) {
  // Any context will do: an address means the same in all of them.
  const CudaContext& context = open_cuda_backend(0).context();
  const cuda::Driver& driver = cuda::driver();
  const auto pointer = reinterpret_cast<cuda::DevicePointer>(address);
  const auto ask = [&](void* answer, int attribute) {
    const cuda::Result result =
        context.call(driver.cuPointerGetAttribute, answer, attribute, pointer);
    if (result == cuda::kSuccess) return;
    throw Error(
        ErrorCode::kInvalidInput,
        "expected memory of a GPU: " + driver.describe(driver.cuPointerGetAttribute.name, result));
  };
  unsigned kind = 0;
  ask(&kind, cuda::kPointerMemoryType);
  if (kind != cuda::kMemoryOfDevice) {
    throw Error(ErrorCode::kInvalidInput, "expected memory of a GPU, got memory of the host");
  }
  int ordinal = 0;
  ask(&ordinal, cuda::kPointerDeviceOrdinal);
  return {DeviceKind::kCuda, static_cast<int16_t>(ordinal)};
}

extern const BackendEntry kCudaBackend;
constexpr BackendEntry kCudaBackend{
    .kind = DeviceKind::kCuda,
    .name = "cuda",
    .device_count = count_cuda,
    .why_absent = why_cuda_absent,
    .open = open_cuda,
    .describe = describe_cuda,
};

}  // namespace pyruntime
