// Copies between page-locked memory and a device, timed: the core's, and the
// driver's own beside them.
#pragma once

#include <bit>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "memory/buffer_pool.h"
#include "memory/cuda_context.h"
#include "probe/slice.h"
#include "schedule/transfer.h"

namespace pyruntime::bench {

inline constexpr int kCopies = 8;  // back to back, to be timed

template <typename Work>
double seconds_of(Work&& work) {
  const TimePoint begun = steady_now();
  work();
  return std::chrono::duration<double>(steady_now() - begun).count();
}

// Page-locked memory and copies by the driver's calls alone; on a simulated device by its stream's.
class PlainCopies {
 public:
  PlainCopies(Device device, std::size_t bytes)
      : backend_(open_device(device)), bytes_(bytes), stream_(backend_.create_stream()) {
    if (device.kind == DeviceKind::kCuda) context_.emplace(cuda::driver(), device.index);
    if (context_) {
      context_->check(driver().cuMemHostAlloc, &host_, bytes, 0U).throw_if_failed();
      context_->check(driver().cuMemAlloc, &device_, bytes).throw_if_failed();
      context_->check(driver().cuStreamCreate, &own_, cuda::kStreamNonBlocking).throw_if_failed();
    } else {
      host_ = backend_.allocate_host(bytes);
      device_ = reinterpret_cast<cuda::DevicePointer>(backend_.allocate(bytes));
    }
  }
  ~PlainCopies() {
    if (context_) {
      (void)context_->call(driver().cuStreamDestroy, own_);
      (void)context_->call(driver().cuMemFree, device_);
      (void)context_->call(driver().cuMemFreeHost, host_);
    } else {
      backend_.free(std::bit_cast<void*>(device_), bytes_);
      backend_.free_host(host_, bytes_);
    }
  }
  PlainCopies(const PlainCopies&) = delete;
  PlainCopies& operator=(const PlainCopies&) = delete;

  // Bytes a second, of copies back to back.
  double rate(bool to_device) {
    const double seconds = seconds_of([&] {
      for (int i = 0; i < kCopies; ++i) copy(to_device);
      synchronize();
    });
    return kCopies * static_cast<double>(bytes_) / seconds;
  }

 private:
  static const cuda::Driver& driver() { return cuda::driver(); }
  void copy(bool to_device) {
    if (!context_) {
      auto* const on_device = std::bit_cast<void*>(device_);
      if (to_device) {
        stream_->copy(on_device, host_, bytes_, CopyKind::kHostToDevice);
      } else {
        stream_->copy(host_, on_device, bytes_, CopyKind::kDeviceToHost);
      }
    } else if (to_device) {
      context_->check(driver().cuMemcpyHtoDAsync, device_, host_, bytes_, own_).throw_if_failed();
    } else {
      context_->check(driver().cuMemcpyDtoHAsync, host_, device_, bytes_, own_).throw_if_failed();
    }
  }
  void synchronize() {
    if (context_) {
      context_->check(driver().cuStreamSynchronize, own_).throw_if_failed();
    } else {
      stream_->synchronize().throw_if_failed();
    }
  }

  DeviceBackend& backend_;
  const std::size_t bytes_;
  const std::unique_ptr<Stream> stream_;
  std::optional<CudaContext> context_;
  cuda::Stream own_ = nullptr;
  void* host_ = nullptr;
  cuda::DevicePointer device_ = 0;
};

// The same by what batches go through: pools and transfers.
class CoreCopies {
 public:
  CoreCopies(Device device, std::size_t bytes)
      : backend_(open_device(device)),
        bytes_(bytes),
        host_pool_(backend_, {.capacity_bytes = 4 * bytes}),
        device_pool_(backend_,
                     {.placement = BufferPool::Placement::kDevice, .capacity_bytes = 4 * bytes}),
        streams_(backend_),
        transfer_(backend_, streams_) {
    Status status;
    host_ = host_pool_.allocate(bytes, &status);
    status.throw_if_failed();
    device_ = device_pool_.allocate(bytes, &status);
    status.throw_if_failed();
  }
  ~CoreCopies() { streams_.close(); }
  CoreCopies(const CoreCopies&) = delete;
  CoreCopies& operator=(const CoreCopies&) = delete;

  double rate(bool to_device) {
    const double seconds = seconds_of([&] {
      transfer_.begin(/*beside=*/true);
      for (int i = 0; i < kCopies; ++i) {
        if (to_device) {
          transfer_.to_device(device_.data(), host_.data(), bytes_);
        } else {
          transfer_.to_host(host_.data(), device_.data(), bytes_);
        }
      }
      transfer_.end();
      transfer_.done().wait().throw_if_failed();
    });
    return kCopies * static_cast<double>(bytes_) / seconds;
  }

 private:
  DeviceBackend& backend_;
  const std::size_t bytes_;
  BufferPool host_pool_;
  BufferPool device_pool_;
  InstanceStreams streams_;
  Transfer transfer_;
  Buffer host_;
  Buffer device_;
};

}  // namespace pyruntime::bench
