// What of a run can be known before it: the shapes of its outputs.
#pragma once

#include <atomic>
#include <vector>

#include "engine/session.h"
#include "memory/tensor.h"

namespace pyruntime {

// Of one model version, shared by its instances.
//
// Threads: all calls from any; it is constant but for what runs disprove.
class RunPlan {
 public:
  explicit RunPlan(const Signature& signature);

  // Whether every output's shape follows from the batch's rows.
  bool knows_outputs() const { return knows_outputs_.load(std::memory_order_relaxed); }

  // For `rows` rows: type, device and shape of every output; data stays null.
  void shape_outputs(int64_t rows, Device device, std::vector<Tensor>* outputs) const;

  // The declared shapes turned out to be wrong: outputs are the engine's to allocate.
  void disprove_outputs() { knows_outputs_.store(false, std::memory_order_relaxed); }

  const Signature& signature() const { return signature_; }

  // Strings and other types that cannot be bound to fixed memory.
  bool has_strings() const { return has_strings_; }

 private:
  const Signature& signature_;
  bool has_strings_ = false;
  std::atomic<bool> knows_outputs_;
};

}  // namespace pyruntime
