// Requests of unequal lengths in one batch: filled up to a common size before the run, and cut
// back to their own lengths after it.
//
// Only in dimensions that the user has declared, since only the user knows that the model gives
// the same answer for a padded request (by a mask, say). Each such dimension has one length in a
// request, wherever it occurs.
//
// Threads: all calls from any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/session.h"
#include "memory/tensor.h"
#include "schedule/batching_options.h"
#include "schedule/padding_sizes.h"

namespace pyruntime {

class Padding {
 public:
  static constexpr std::size_t kMostDims = 4;
  // Of each padded dimension, in the order of the options.
  using Sizes = std::array<int64_t, kMostDims>;

  // Throws InvalidInput, naming the option, for what the signature does not have.
  Padding(const std::vector<PaddingOptions>& options, const Signature& signature);
  ~Padding();
  Padding(const Padding&) = delete;
  Padding& operator=(const Padding&) = delete;

  bool is_empty() const { return dims_.empty(); }

  // Whether each dimension has one length in all of `inputs`: InvalidInput otherwise.
  Status check(const std::vector<Tensor>& inputs) const;

  // Counts the lengths of `inputs`, valid ones, and chooses to what they are padded.
  Sizes choose(const std::vector<Tensor>& inputs);
  // The shape of an input when padded.
  Shape padded(std::size_t input, const Shape& shape, const Sizes& sizes) const;

  // Writes `from`, rows of input `input`, into rows of shape `to` (dimension 0 is that of `from`),
  // and fills the rest.
  void fill(std::size_t input, const Tensor& from, const Shape& to, std::byte* rows) const;
  // Writes what fills rows of input `input` alone, `size_bytes` of it.
  void fill(std::size_t input, std::size_t element_bytes, std::size_t size_bytes,
            std::byte* rows) const;

  // The shape of output `output` for a request of `inputs`, cut from that of its padded batch.
  Shape cut(std::size_t output, const Shape& batch, const std::vector<Tensor>& inputs,
            const std::vector<Tensor>& batch_inputs) const;

  // The model has failed with `batch_inputs`, padded, but not unpadded.
  void forbid(const std::vector<Tensor>& inputs, const std::vector<Tensor>& batch_inputs);

  // Of each dimension, the sizes that are used now.
  std::vector<std::vector<int64_t>> sizes() const;

 private:
  struct Place {
    std::size_t tensor;
    std::size_t axis;
  };
  struct Dim;
  struct Axis {
    std::size_t axis;
    std::size_t dim;  // of dims_
  };

  int64_t length_of(std::size_t dim, const std::vector<Tensor>& inputs) const;

  const Signature& signature_;
  std::vector<std::unique_ptr<Dim>> dims_;
  std::vector<std::vector<Axis>> input_axes_;   // by input
  std::vector<std::vector<Axis>> output_axes_;  // by output
  // By input, one element of what fills it.
  std::vector<std::array<std::byte, 8>> fills_;
};

}  // namespace pyruntime
