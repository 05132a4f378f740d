// The calls of the CUDA driver that the core makes, over streams on threads.
// As strict as the real driver allows: a call needs a current context, handles
// must be alive.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>
#include <string>

#include <unistd.h>

#include "control.h"
#include "state.h"
#include "stream.h"

namespace fake_cuda {
namespace {

using Context = Device*;

constexpr std::size_t kMostBytes = std::size_t{1} << 30U;

thread_local Context current = nullptr;

// Runs `body(lock)` unless the call is to fail: by the test, without a context,
// or because the context has ended.
template <typename Body>
int with_context(const char* name, Body body) {
  State& state = State::instance();
  std::unique_lock lock(state.mutex);
  if (const int result = state.take_failure_locked(name)) return result;
  if (is_in_callback()) {
    state.misuse_locked(std::string(name) + " called by a function that the driver called");
    return kNotPermitted;
  }
  if (current == nullptr) return kInvalidContext;
  if (current->ended != kSuccess) return current->ended;
  return body(state, lock);
}

int index_of(const Device* device) {
  return static_cast<int>(device - State::instance().devices.data());
}

template <typename Handle>
bool is_alive_locked(State& state, const std::set<Handle*>& handles, Handle* handle) {
  if (handles.contains(handle)) return true;
  state.misuse_locked("a handle that is none, or was destroyed");
  return false;
}

// What is meant: 0 and 1 are the current device's default stream, 2 is that of the thread.
Stream* resolve_locked(State& state, Stream* stream) {
  const auto handle = reinterpret_cast<uintptr_t>(stream);
  if (handle > 2) return stream;
  static thread_local std::array<Stream*, kDevices> of_thread{};
  Stream*& found = handle == 2 ? of_thread.at(static_cast<std::size_t>(index_of(current)))
                               : current->default_stream;
  if (found == nullptr) state.streams.insert(found = new Stream(index_of(current)));
  return found;
}

// Runs `body(state, lock)` with `stream` resolved, if that is alive.
template <typename Body>
int with_stream(const char* name, Stream*& stream, Body body) {
  return with_context(name, [&](State& state, std::unique_lock<std::mutex>& lock) -> int {
    stream = resolve_locked(state, stream);
    if (!is_alive_locked(state, state.streams, stream)) return kInvalidHandle;
    return body(state, lock);
  });
}

int copy_on(const char* name, Stream* stream, const Copy& copy) {
  return with_stream(name, stream, [&](State&, std::unique_lock<std::mutex>& lock) {
    return stream->copy(lock, copy);
  });
}

}  // namespace
}  // namespace fake_cuda

using namespace fake_cuda;

// NOLINTBEGIN(readability-identifier-naming): the driver's names
#define EXPORT extern "C" __attribute__((visibility("default"))) int

EXPORT cuInit(unsigned) {
  State& state = State::instance();
  const std::lock_guard lock(state.mutex);
  return state.take_failure_locked("cuInit");
}

EXPORT cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}

EXPORT cuGetErrorName(int result, const char** name) {
  switch (result) {
    case kInvalidValue:
      *name = "CUDA_ERROR_INVALID_VALUE";
      return kSuccess;
    case kOutOfMemory:
      *name = "CUDA_ERROR_OUT_OF_MEMORY";
      return kSuccess;
    case kInvalidContext:
      *name = "CUDA_ERROR_INVALID_CONTEXT";
      return kSuccess;
    case kOperatingSystem:
      *name = "CUDA_ERROR_OPERATING_SYSTEM";
      return kSuccess;
    case kInvalidHandle:
      *name = "CUDA_ERROR_INVALID_HANDLE";
      return kSuccess;
    case kIllegalAddress:
      *name = "CUDA_ERROR_ILLEGAL_ADDRESS";
      return kSuccess;
    default:
      *name = "CUDA_ERROR_UNKNOWN";
      return kSuccess;
  }
}

EXPORT cuGetErrorString(int result, const char** text) {
  *text = result == kIllegalAddress  ? "an illegal memory access was encountered"
          : result == kOutOfMemory   ? "out of memory"
          : result == kInvalidHandle ? "invalid resource handle"
                                     : "an injected failure";
  return kSuccess;
}

EXPORT cuDeviceGetCount(int* count) {
  *count = kDevices;
  return kSuccess;
}

EXPORT cuDeviceGet(int* device, int ordinal) {
  if (ordinal < 0 || ordinal >= kDevices) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}

EXPORT cuDeviceGetName(char* name, int size, int device) {
  std::snprintf(name, static_cast<std::size_t>(size), "Fake GPU %d", device);
  return kSuccess;
}

EXPORT cuDeviceGetPCIBusId(char* id, int size, int device) {
  std::snprintf(id, static_cast<std::size_t>(size), "0000:%02X:00.0", 0xFA + device);
  return kSuccess;
}

EXPORT cuDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int kMemoryPoolsSupported = 115;
  *value = attribute == kMemoryPoolsSupported ? 1 : 0;
  return kSuccess;
}

EXPORT cuDeviceTotalMem_v2(std::size_t* bytes, int) {
  *bytes = std::size_t{1} << 30U;
  return kSuccess;
}

EXPORT cuDevicePrimaryCtxRetain(Context* context, int device) {
  State& state = State::instance();
  const std::lock_guard lock(state.mutex);
  if (const int result = state.take_failure_locked("cuDevicePrimaryCtxRetain")) return result;
  *context = &state.devices.at(static_cast<std::size_t>(device));
  ++(*context)->contexts_retained;
  return kSuccess;
}

EXPORT cuCtxGetCurrent(Context* context) {
  *context = current;
  return kSuccess;
}

EXPORT cuCtxSetCurrent(Context context) {
  current = context;
  return kSuccess;
}

EXPORT cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total_bytes) {
  return with_context("cuMemGetInfo_v2", [&](State&, std::unique_lock<std::mutex>&) {
    const int64_t limit = current->faults.memory_bytes;
    *total_bytes = limit < 0 ? std::size_t{1} << 30U : static_cast<std::size_t>(limit);
    *free_bytes = *total_bytes - std::min(*total_bytes, current->used_bytes);
    return static_cast<int>(kSuccess);
  });
}

EXPORT cuMemAlloc_v2(uintptr_t* address, std::size_t size_bytes) {
  return with_context("cuMemAlloc_v2", [&](State& state, std::unique_lock<std::mutex>&) {
    if (size_bytes == 0) return static_cast<int>(kInvalidValue);
    *address = state.allocate_locked(index_of(current), size_bytes);
    return static_cast<int>(*address == 0 ? kOutOfMemory : kSuccess);
  });
}

EXPORT cuMemFree_v2(uintptr_t address) {
  return with_context("cuMemFree_v2", [&](State& state, std::unique_lock<std::mutex>&) {
    const std::size_t size_bytes = state.size_of_locked(address);
    // The driver would wait for the whole device; the core is to know that nothing is under way.
    if (!state.accesses.is_over(address, address + size_bytes, state.host)) {
      state.misuse_locked("device memory freed before the host has waited for work on it");
    }
    return static_cast<int>(state.free_locked(address) ? kSuccess : kInvalidValue);
  });
}

EXPORT cuMemAllocAsync(uintptr_t* address, std::size_t size_bytes, Stream* stream) {
  return with_stream("cuMemAllocAsync", stream,
                     [&](State& state, std::unique_lock<std::mutex>&) -> int {
                       if (size_bytes == 0) return kInvalidValue;
                       *address = state.allocate_locked(stream->device, size_bytes);
                       if (*address == 0) return kOutOfMemory;
                       // Others must wait for this stream before they use it.
                       stream->allocate_locked(*address, size_bytes);
                       return kSuccess;
                     });
}

EXPORT cuMemFreeAsync(uintptr_t address, Stream* stream) {
  return with_stream(
      "cuMemFreeAsync", stream, [&](State& state, std::unique_lock<std::mutex>&) -> int {
        const std::size_t size_bytes = state.size_of_locked(address);
        if (!stream->begin_free_locked(address, size_bytes)) {
          state.misuse_locked("device memory freed in a stream that has not waited for work on it");
        }
        return state.free_locked(address) ? kSuccess : kInvalidValue;
      });
}

// CUipcMemHandle, as the fake fills it.
struct SharedMemory {
  int process;
  int file;
  std::size_t size_bytes;
  char rest[64 - 2 * sizeof(int) - sizeof(std::size_t)];
};

// Unlike the driver, the fake lets the process that has shared it open it, too.
EXPORT cuIpcGetMemHandle(SharedMemory* handle, uintptr_t address) {
  return with_context("cuIpcGetMemHandle", [&](State& state, std::unique_lock<std::mutex>&) {
    uintptr_t begin = 0;
    int device = 0;
    *handle = {};
    if (!state.find_locked(address, &begin, &handle->size_bytes, &device)) {
      return static_cast<int>(kInvalidValue);
    }
    handle->process = getpid();
    handle->file = state.share_locked(begin);
    return static_cast<int>(handle->file < 0 ? kInvalidValue : kSuccess);
  });
}

EXPORT cuIpcOpenMemHandle_v2(uintptr_t* address, SharedMemory handle, unsigned) {
  return with_context("cuIpcOpenMemHandle_v2", [&](State& state, std::unique_lock<std::mutex>&) {
    if (handle.process <= 0 || handle.size_bytes == 0 || handle.size_bytes > kMostBytes) {
      return static_cast<int>(kInvalidValue);
    }
    *address =
        state.map_shared_locked(index_of(current), handle.process, handle.file, handle.size_bytes);
    return static_cast<int>(*address == 0 ? kInvalidValue : kSuccess);
  });
}

EXPORT cuIpcCloseMemHandle(uintptr_t address) {
  return with_context("cuIpcCloseMemHandle", [&](State& state, std::unique_lock<std::mutex>&) {
    const std::size_t size_bytes = state.size_of_locked(address);
    if (!state.accesses.is_over(address, address + size_bytes, state.host)) {
      state.misuse_locked("shared memory closed before the host has waited for work on it");
    }
    return static_cast<int>(state.free_locked(address) ? kSuccess : kInvalidValue);
  });
}

EXPORT cuMemGetAddressRange_v2(uintptr_t* begin, std::size_t* size_bytes, uintptr_t address) {
  return with_context("cuMemGetAddressRange_v2", [&](State& state, std::unique_lock<std::mutex>&) {
    int device = 0;
    const bool is_found = state.find_locked(address, begin, size_bytes, &device);
    return static_cast<int>(is_found ? kSuccess : kInvalidValue);
  });
}

EXPORT cuPointerGetAttribute(void* answer, int attribute, uintptr_t address) {
  return with_context("cuPointerGetAttribute", [&](State& state, std::unique_lock<std::mutex>&) {
    constexpr int kMemoryType = 2;
    constexpr int kDeviceOrdinal = 9;
    uintptr_t begin = 0;
    std::size_t size_bytes = 0;
    int device = 0;
    const bool is_device = state.find_locked(address, &begin, &size_bytes, &device);
    if (!is_device && !state.is_pinned_locked(address, 1)) return static_cast<int>(kInvalidValue);
    if (attribute == kMemoryType) {
      *static_cast<unsigned*>(answer) = is_device ? 2 : 1;
    } else if (attribute == kDeviceOrdinal) {
      *static_cast<int*>(answer) = device;
    } else {
      return static_cast<int>(kInvalidValue);
    }
    return static_cast<int>(kSuccess);
  });
}

EXPORT cuMemHostAlloc(void** address, std::size_t size_bytes, unsigned) {
  return with_context("cuMemHostAlloc", [&](State& state, std::unique_lock<std::mutex>&) {
    if (size_bytes == 0) return static_cast<int>(kInvalidValue);
    *address = state.allocate_host_locked(size_bytes);
    return static_cast<int>(*address == nullptr ? kOutOfMemory : kSuccess);
  });
}

EXPORT cuMemFreeHost(void* address) {
  return with_context("cuMemFreeHost", [&](State& state, std::unique_lock<std::mutex>& lock) {
    return static_cast<int>(state.free_host(lock, address) ? kSuccess : kInvalidValue);
  });
}

EXPORT cuMemcpyHtoDAsync_v2(uintptr_t destination, const void* source, std::size_t size_bytes,
                            Stream* stream) {
  return copy_on("cuMemcpyHtoDAsync_v2", stream,
                 {.destination = destination,
                  .source = reinterpret_cast<uintptr_t>(source),
                  .size_bytes = size_bytes,
                  .is_from_host = true});
}

EXPORT cuMemcpyDtoHAsync_v2(void* destination, uintptr_t source, std::size_t size_bytes,
                            Stream* stream) {
  return copy_on("cuMemcpyDtoHAsync_v2", stream,
                 {.destination = reinterpret_cast<uintptr_t>(destination),
                  .source = source,
                  .size_bytes = size_bytes,
                  .is_to_host = true});
}

EXPORT cuMemcpyDtoDAsync_v2(uintptr_t destination, uintptr_t source, std::size_t size_bytes,
                            Stream* stream) {
  return copy_on("cuMemcpyDtoDAsync_v2", stream,
                 {.destination = destination, .source = source, .size_bytes = size_bytes});
}

EXPORT cuStreamCreate(Stream** stream, unsigned) {
  return with_context("cuStreamCreate", [&](State& state, std::unique_lock<std::mutex>&) {
    *stream = new Stream(index_of(current));
    state.streams.insert(*stream);
    return static_cast<int>(kSuccess);
  });
}

EXPORT cuStreamDestroy_v2(Stream* stream) {
  // An ended context lets nothing be destroyed; the fake does, to leave no threads.
  State& state = State::instance();
  std::unique_lock lock(state.mutex);
  if (const int result = state.take_failure_locked("cuStreamDestroy_v2")) return result;
  if (current == nullptr) return kInvalidContext;
  if (!is_alive_locked(state, state.streams, stream)) return kInvalidHandle;
  state.streams.erase(stream);
  const int result = current->ended;
  lock.unlock();
  delete stream;
  return result;
}

EXPORT cuStreamSynchronize(Stream* stream) {
  return with_stream(
      "cuStreamSynchronize", stream,
      [&](State&, std::unique_lock<std::mutex>& lock) { return stream->synchronize(lock); });
}

EXPORT cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
  return with_stream("cuStreamWaitEvent", stream,
                     [&](State& state, std::unique_lock<std::mutex>&) -> int {
                       if (!is_alive_locked(state, state.events, event)) return kInvalidHandle;
                       stream->wait_locked(event->moment);
                       return kSuccess;
                     });
}

EXPORT cuStreamAddCallback(Stream* stream, void (*callback)(Stream*, int, void*), void* context,
                           unsigned) {
  return with_stream("cuStreamAddCallback", stream, [&](State&, std::unique_lock<std::mutex>&) {
    stream->call_locked([=](int result) { callback(stream, result, context); });
    return static_cast<int>(kSuccess);
  });
}

EXPORT cuEventCreate(Event** event, unsigned) {
  return with_context("cuEventCreate", [&](State& state, std::unique_lock<std::mutex>&) {
    *event = new Event(index_of(current));
    state.events.insert(*event);
    return static_cast<int>(kSuccess);
  });
}

EXPORT cuEventDestroy_v2(Event* event) {
  State& state = State::instance();
  const std::lock_guard lock(state.mutex);
  if (current == nullptr) return kInvalidContext;
  if (!is_alive_locked(state, state.events, event)) return kInvalidHandle;
  state.events.erase(event);
  delete event;
  return current->ended;
}

EXPORT cuEventRecord(Event* event, Stream* stream) {
  return with_stream("cuEventRecord", stream,
                     [&](State& state, std::unique_lock<std::mutex>&) -> int {
                       if (!is_alive_locked(state, state.events, event)) return kInvalidHandle;
                       if (event->device != stream->device) return kInvalidHandle;
                       stream->record_locked(event->moment);
                       return kSuccess;
                     });
}

EXPORT cuEventQuery(Event* event) {
  return with_context("cuEventQuery", [&](State& state, std::unique_lock<std::mutex>&) -> int {
    if (!is_alive_locked(state, state.events, event)) return kInvalidHandle;
    const Moment& moment = *event->moment;
    if (moment.fired < moment.given) return kNotReady;
    state.host.join(moment.clock);
    return kSuccess;
  });
}

EXPORT cuEventSynchronize(Event* event) {
  return with_context("cuEventSynchronize",
                      [&](State& state, std::unique_lock<std::mutex>& lock) -> int {
                        if (!is_alive_locked(state, state.events, event)) return kInvalidHandle;
                        return wait_for(lock, event->device, event->moment);
                      });
}
// NOLINTEND(readability-identifier-naming)

extern "C" __attribute__((visibility("default"))) const Control* fake_cuda_control() {
  static constexpr Control kControl{
      .set_faults =
          [](int device, const Faults& faults) {
            State& state = State::instance();
            const std::lock_guard lock(state.mutex);
            Device& on = state.devices.at(static_cast<std::size_t>(device));
            on.faults = faults;
            on.ended = kSuccess;
            if (faults.stall_after < 0) ++on.stall_releases;
            state.changed.notify_all();
          },
      .fail_next =
          [](const char* name, int result) {
            State& state = State::instance();
            const std::lock_guard lock(state.mutex);
            state.failures[name] = result;
          },
      .misuse_count =
          [] {
            State& state = State::instance();
            const std::lock_guard lock(state.mutex);
            return state.misuses;
          },
      .last_misuse =
          [] {
            static thread_local std::string text;
            State& state = State::instance();
            const std::lock_guard lock(state.mutex);
            text = state.last_misuse;
            return text.c_str();
          },
      .used_bytes =
          [](int device) {
            State& state = State::instance();
            const std::lock_guard lock(state.mutex);
            return uint64_t{state.devices.at(static_cast<std::size_t>(device)).used_bytes};
          },
      .host_bytes =
          [] {
            State& state = State::instance();
            const std::lock_guard lock(state.mutex);
            return uint64_t{state.host_bytes};
          },
  };
  return &kControl;
}
