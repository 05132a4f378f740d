// What pyruntime._hot needs said in C++.
#pragma once

#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/clock.h"
#include "bindings/completion_queue.h"
#include "bindings/python_errors.h"
#include "bindings/shared_capsule.h"
#include "memory/device_cuda.h"
#include "memory/hand_over.h"
#include "memory/tensor.h"
#include "schedule/request.h"
#include "serving/model.h"
#include "serving/registry.h"

namespace pyruntime {

// A request under way whose result goes to a completion queue.
struct PendingRequest {
  Completion completion;
  Decision decision;  // before the request, whose pool its model owns
  RequestRef request;

  void prepare(std::shared_ptr<CompletionQueue> queue, void (*deliver)(Completion*), void* owner) {
    completion.queue = std::move(queue);
    completion.deliver = deliver;
    completion.owner = owner;
    request->on_complete = [](void* context, Request&) noexcept {
      CompletionQueue::push(*static_cast<Completion*>(context));
    };
    request->context = &completion;
  }

  void reset() {
    request.reset();
    decision.reset();
    completion.queue.reset();
  }
};

// A view of memory that someone else keeps. dims: `rank` of them.
inline void view(Tensor& tensor, int type, void* data, int rank, const void* dims) {
  static constinit std::byte empty{};
  tensor.type = static_cast<DataType>(type);
  tensor.device = Device{};
  tensor.shape = Shape(std::span(static_cast<const int64_t*>(dims), static_cast<size_t>(rank)));
  tensor.data = data == nullptr ? &empty : static_cast<std::byte*>(data);
}

// The same in the memory of a GPU.
inline void view_on_device(Tensor& tensor, int type, void* data, int rank, const int64_t* dims,
                           int index) {
  view(tensor, type, data, rank, dims);
  tensor.device = {DeviceKind::kCuda, static_cast<int16_t>(index)};
}

inline Device cuda_device(int index) { return {DeviceKind::kCuda, static_cast<int16_t>(index)}; }
inline int index_of_device(const Tensor& tensor) { return tensor.device.index; }
inline bool is_on_cuda(const Tensor& tensor) { return tensor.device.kind == DeviceKind::kCuda; }
inline bool is_on_host(const Tensor& tensor) { return tensor.device == Device{}; }
inline std::string device_name_of(const Tensor& tensor) { return tensor.device.name(); }
inline void set_type(Tensor& tensor, int type) { tensor.type = static_cast<DataType>(type); }
inline std::unique_ptr<Tensor> copy_of(const Tensor& tensor) {
  return std::make_unique<Tensor>(tensor);
}

// The GPU on which memory lies that no library has said to be on one; of no memory, where `model`
// takes it.
inline int device_of_address(const ModelVersion& model, std::size_t address) {
  const std::optional<Device> taken = model.memory_device();
  if (!taken) {
    throw Error(ErrorCode::kInvalidInput, "expected memory on 'cpu', got memory of a GPU");
  }
  if (address == 0) return taken->index;
  return cuda_device_of(std::bit_cast<void*>(address)).index;
}

inline std::unique_ptr<HandOver> make_hand_over(int index) {
  return std::make_unique<HandOver>(open_device(cuda_device(index)));
}

inline void keep_for_readers(Tensor& tensor) {
  tensor.buffer = keep_for_streams(open_device(tensor.device), std::move(tensor.buffer));
}

// Copies a tensor on a device to the host, and waits.
inline Status fetch(const Tensor& tensor, void* to) {
  try {
    const std::unique_ptr<Stream> stream = open_device(tensor.device).create_stream();
    stream->copy(to, tensor.data, tensor.size_bytes(), CopyKind::kDeviceToHost);
    return stream->synchronize();
  } catch (const Error& error) {
    return error.status();
  }
}

inline int type_of(const Tensor& tensor) { return static_cast<int>(tensor.type); }
inline int type_of_spec(const TensorSpec& spec) { return static_cast<int>(spec.type); }

inline std::weak_ptr<ModelVersion> weaken(const std::shared_ptr<ModelVersion>& model) {
  return model;
}

// Whether `weak` is, or was, of the same object as `shared`.
inline bool is_of(const std::weak_ptr<ModelVersion>& weak,
                  const std::shared_ptr<ModelVersion>& shared) {
  return !weak.owner_before(shared) && !shared.owner_before(weak);
}

// seconds: from now; beyond 30 years never.
inline void set_deadline(Request& request, double seconds) {
  constexpr double kLongest = 1e9;
  if (seconds > kLongest) return;
  const auto wait = std::chrono::duration<double>(std::fmax(seconds, 0.0));
  request.deadline = SteadyClock::instance().now() + std::chrono::duration_cast<Nanoseconds>(wait);
}

// Whether `status` says that the version went away before it took the request.
inline bool is_refused_by_closed(const Status& status) {
  return status.code() == ErrorCode::kUnavailable;
}

inline void set_priority(Request& request, int priority) {
  request.priority = static_cast<Priority>(priority);
}

inline std::string_view view_of(const char* data, Py_ssize_t size_bytes) {
  return {data, static_cast<std::size_t>(size_bytes)};
}

}  // namespace pyruntime
