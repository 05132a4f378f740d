// Writes a serialised inference.ModelInferResponse: measured first, then
// written into memory of exactly that size.
//
// Threads: one user at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/session.h"
#include "memory/tensor.h"

namespace pyruntime {

class InferResponse {
 public:
  // All of it is borrowed until encode() has returned.
  struct Parts {
    std::string_view model_name;
    std::string_view model_version;
    std::string_view id;
    std::string_view experiment;  // and `arm`: parameters of these names; empty: none
    std::string_view arm;
    std::span<const TensorSpec> specs;
    std::span<const Tensor> tensors;  // as many; those without data are left out
    bool is_typed = false;            // typed contents, unless a tensor is raw only
  };

  // Returns the size, bytes. Does not allocate once it has seen as many outputs.
  std::size_t measure(const Parts& parts);

  // Writes what was measured.
  void encode(std::byte* to) const;

 private:
  struct Lengths {
    std::size_t dims = 0;      // the packed shape
    std::size_t elements = 0;  // packed typed ones, or the raw contents
    std::size_t contents = 0;  // InferTensorContents
    std::size_t message = 0;   // InferOutputTensor
  };

  Lengths measure_output(const TensorSpec& spec, const Tensor& tensor) const;

  Parts parts_;
  bool is_typed_ = false;
  std::vector<Lengths> lengths_;
};

}  // namespace pyruntime
