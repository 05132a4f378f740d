// A copy of one request and of its answer, on the way to a shadow.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "memory/tensor.h"
#include "schedule/request.h"
#include "serving/shadow.h"

namespace pyruntime {

// Copies of host tensors in one piece of memory, which is kept for the next.
class TensorCopies {
 public:
  // Bytes that copies of `tensors` take.
  static std::size_t size_bytes(std::span<const Tensor> tensors);

  // Copies those with data; the others stay without. size_bytes: as above.
  void copy(std::span<const Tensor> tensors, std::size_t size_bytes);
  // Gives memory back that is more than `kept_bytes`.
  void shrink(std::size_t kept_bytes);

  std::span<const Tensor> tensors() const { return tensors_; }
  std::size_t capacity_bytes() const { return capacity_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };

  std::vector<Tensor> tensors_;
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t capacity_bytes_ = 0;
};

// Threads: one user at a time: who watches the request, who completes it, the
// runner's thread.
struct ShadowJob {
  std::shared_ptr<const ShadowRoute> route;
  std::size_t arm = 0;  // that answered
  TensorCopies inputs;
  TensorCopies outputs;
};

}  // namespace pyruntime
