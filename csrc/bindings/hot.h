// What pyruntime._hot needs said in C++.
#pragma once

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/clock.h"
#include "bindings/completion_queue.h"
#include "bindings/python_errors.h"
#include "bindings/shared_capsule.h"
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
