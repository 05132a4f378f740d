// What of a run can be known before it: how its inputs are padded, and the shapes of its outputs.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/session.h"
#include "memory/tensor.h"
#include "schedule/padding.h"

namespace pyruntime {

// Of one model version, shared by its instances.
//
// Threads: all calls from any; it is constant but for what runs disprove.
class RunPlan {
 public:
  // Throws InvalidInput where `padding` does not fit the signature.
  RunPlan(const Signature& signature, const std::vector<PaddingOptions>& padding);

  // Whether every output's shape follows from the inputs': each dimension is declared, is that of
  // the rows, or has the name of one of an input.
  bool knows_outputs() const { return knows_outputs_.load(std::memory_order_relaxed); }

  // For a run of `inputs`: type, device and shape of every output; data stays null.
  void shape_outputs(std::span<const Tensor> inputs, Device device,
                     std::vector<Tensor>* outputs) const;

  // The declared shapes turned out to be wrong: outputs are the engine's to allocate.
  void disprove_outputs() { knows_outputs_.store(false, std::memory_order_relaxed); }

  const Signature& signature() const { return signature_; }
  const Padding& padding() const { return padding_; }
  Padding& padding() { return padding_; }

  // Strings and other types that cannot be bound to fixed memory.
  bool has_strings() const { return has_strings_; }

 private:
  // Where a dimension of an output comes from.
  struct Source {
    std::size_t output;
    std::size_t axis;
    std::size_t input;
    std::size_t input_axis;
  };
  bool find_sources(std::size_t output);

  const Signature& signature_;
  Padding padding_;
  std::vector<Source> sources_;
  bool has_strings_ = false;
  std::atomic<bool> knows_outputs_;
};

}  // namespace pyruntime
