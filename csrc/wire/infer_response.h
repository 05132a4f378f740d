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
#include "wire/request_options.h"

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
    // Of each where it has been written, or empty: a place that is given is named in the response
    // instead of the contents.
    std::span<const SharedPlace> places;
    bool is_typed = false;  // typed contents, unless a tensor is raw only
  };

  // Returns the size, bytes. Does not allocate once it has seen as many outputs.
  std::size_t measure(const Parts& parts);

  // Writes what was measured.
  void encode(std::byte* to) const;

 private:
  struct Lengths {
    std::size_t dims = 0;      // the packed shape
    std::size_t elements = 0;  // packed typed ones, or the raw contents; 0 where it has a place
    std::size_t parameters = 0;
    std::size_t contents = 0;  // InferTensorContents
    std::size_t message = 0;   // InferOutputTensor
  };

  Lengths measure_output(std::size_t output) const;
  bool has_place(std::size_t output) const {
    return !parts_.places.empty() && parts_.places[output].is_given();
  }

  Parts parts_;
  bool is_typed_ = false;
  std::vector<Lengths> lengths_;
};

// What raw contents of a tensor are: its elements; of strings each with its length before it.
std::size_t raw_contents_size(const Tensor& tensor);
void write_raw_contents(const Tensor& tensor, std::byte* to);

}  // namespace pyruntime
