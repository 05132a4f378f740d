// The CUDA driver's interface, loaded at run time: no toolkit at build time, and
// one build for machines with and without a GPU, under CUDA 12 and 13.
//
// Signatures and numbers are those of the CUDA Driver API reference manual
// (docs.nvidia.com/cuda/cuda-driver-api); the names that end in _v2 are those to
// which cuda.h maps the plain ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pyruntime::cuda {

using Result = int;  // CUresult
using DeviceHandle = int;
using DevicePointer = unsigned long long;
using Context = struct ContextOfDriver*;
using Stream = struct StreamOfDriver*;
using Event = struct EventOfDriver*;

// CUipcMemHandle: memory of another process.
struct IpcMemHandle {
  char bytes[64];
};

inline constexpr Result kSuccess = 0;
inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kNotInitialized = 3;
inline constexpr Result kDeinitialized = 4;
inline constexpr Result kNotReady = 600;

inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventBlockingSync = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kHostAllocPortable = 1;
inline constexpr unsigned kIpcLazyEnablePeerAccess = 1;
inline constexpr int kPointerMemoryType = 2;       // CU_POINTER_ATTRIBUTE_MEMORY_TYPE
inline constexpr int kPointerDeviceOrdinal = 9;    // CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
inline constexpr unsigned kMemoryOfDevice = 2;     // CU_MEMORYTYPE_DEVICE
inline constexpr int kMemoryPoolsSupported = 115;  // CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED

// Whether no call of the process will succeed on that device any more.
bool is_sticky(Result result);

template <typename... Parameters>
struct Call {
  const char* name;
  Result (*function)(Parameters...) = nullptr;
};

// X(member, name, parameters...)
#define PYRUNTIME_CUDA_CALLS(X)                                                                   \
  X(cuInit, "cuInit", unsigned)                                                                   \
  X(cuDriverGetVersion, "cuDriverGetVersion", int*)                                               \
  X(cuGetErrorName, "cuGetErrorName", Result, const char**)                                       \
  X(cuGetErrorString, "cuGetErrorString", Result, const char**)                                   \
  X(cuDeviceGetCount, "cuDeviceGetCount", int*)                                                   \
  X(cuDeviceGet, "cuDeviceGet", DeviceHandle*, int)                                               \
  X(cuDeviceGetName, "cuDeviceGetName", char*, int, DeviceHandle)                                 \
  X(cuDeviceGetPCIBusId, "cuDeviceGetPCIBusId", char*, int, DeviceHandle)                         \
  X(cuDeviceGetAttribute, "cuDeviceGetAttribute", int*, int, DeviceHandle)                        \
  X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", std::size_t*, DeviceHandle)                          \
  X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", Context*, DeviceHandle)                 \
  X(cuCtxGetCurrent, "cuCtxGetCurrent", Context*)                                                 \
  X(cuCtxSetCurrent, "cuCtxSetCurrent", Context)                                                  \
  X(cuMemGetInfo, "cuMemGetInfo_v2", std::size_t*, std::size_t*)                                  \
  X(cuMemAlloc, "cuMemAlloc_v2", DevicePointer*, std::size_t)                                     \
  X(cuMemFree, "cuMemFree_v2", DevicePointer)                                                     \
  X(cuMemGetAddressRange, "cuMemGetAddressRange_v2", DevicePointer*, std::size_t*, DevicePointer) \
  X(cuPointerGetAttribute, "cuPointerGetAttribute", void*, int, DevicePointer)                    \
  X(cuIpcOpenMemHandle, "cuIpcOpenMemHandle_v2", DevicePointer*, IpcMemHandle, unsigned)          \
  X(cuIpcCloseMemHandle, "cuIpcCloseMemHandle", DevicePointer)                                    \
  X(cuMemHostAlloc, "cuMemHostAlloc", void**, std::size_t, unsigned)                              \
  X(cuMemFreeHost, "cuMemFreeHost", void*)                                                        \
  X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", DevicePointer, const void*, std::size_t, Stream)   \
  X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", void*, DevicePointer, std::size_t, Stream)         \
  X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2", DevicePointer, DevicePointer, std::size_t, Stream) \
  X(cuStreamCreate, "cuStreamCreate", Stream*, unsigned)                                          \
  X(cuStreamDestroy, "cuStreamDestroy_v2", Stream)                                                \
  X(cuStreamSynchronize, "cuStreamSynchronize", Stream)                                           \
  X(cuStreamWaitEvent, "cuStreamWaitEvent", Stream, Event, unsigned)                              \
  X(cuStreamAddCallback, "cuStreamAddCallback", Stream, void (*)(Stream, Result, void*), void*,   \
    unsigned)                                                                                     \
  X(cuEventCreate, "cuEventCreate", Event*, unsigned)                                             \
  X(cuEventDestroy, "cuEventDestroy_v2", Event)                                                   \
  X(cuEventRecord, "cuEventRecord", Event, Stream)                                                \
  X(cuEventQuery, "cuEventQuery", Event)                                                          \
  X(cuEventSynchronize, "cuEventSynchronize", Event)

// Not in every driver: the stream-ordered allocator came with CUDA 11.2.
#define PYRUNTIME_CUDA_OPTIONAL_CALLS(X)                                     \
  X(cuMemAllocAsync, "cuMemAllocAsync", DevicePointer*, std::size_t, Stream) \
  X(cuMemFreeAsync, "cuMemFreeAsync", DevicePointer, Stream)

struct Driver {
#define PYRUNTIME_DECLARE(member, name, ...) Call<__VA_ARGS__> member{name};
  PYRUNTIME_CUDA_CALLS(PYRUNTIME_DECLARE)
  PYRUNTIME_CUDA_OPTIONAL_CALLS(PYRUNTIME_DECLARE)
#undef PYRUNTIME_DECLARE

  std::string path;
  int version = 0;  // 13000: CUDA 13.0
  int device_count = 0;

  // "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected"
  std::string describe(std::string_view call, Result result) const;
};

// Loads and initialises a driver; empty `path`: libcuda.so.1 where the system
// has it. Throws Unavailable when there is none, it lacks a call or fails.
Driver load_driver(const std::string& path);

// The driver of this process, loaded by the first call and kept for good.
// Throws Unavailable, also in a child of a process that had loaded it: a driver
// does not survive fork(). Threads: any.
const Driver& driver();

}  // namespace pyruntime::cuda
