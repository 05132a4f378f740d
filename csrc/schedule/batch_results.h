// The outputs of a batch, handed out to its members: each gets its rows, cut back where they were
// padded.
//
// As slices of the batch's memory that keep it alive, or as copies: where the memory is used again
// by the next run, where a slice would be a small part of what it keeps alive, and where rows are
// cut.
//
// Threads: the owner of the instance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "memory/buffer_pool.h"
#include "memory/tensor.h"
#include "schedule/padding.h"
#include "schedule/placement.h"
#include "schedule/request.h"

namespace pyruntime {

// A result smaller than this part of its batch's is copied: a caller who keeps
// it would keep the others' memory too.
inline constexpr std::size_t kSmallShare = 8;

// Sizes of tensors, bytes.
struct TensorSizes {
  std::vector<std::size_t> whole;
  std::vector<std::size_t> row;  // one index of dimension 0; of a scalar, all of it

  void measure(std::span<const Tensor> tensors);
};

class BatchResults {
 public:
  // Both must outlive it. pool: of the host's memory.
  BatchResults(BufferPool& pool, const Padding& padding) : pool_(pool), padding_(padding) {}

  // What is handed out until the next call; valid so long.
  struct Source {
    std::span<const Tensor> outputs;              // on the host; data null: not made
    const TensorSizes* sizes = nullptr;           // theirs
    const std::vector<Tensor>* inputs = nullptr;  // of the run
    const Buffer* memory = nullptr;               // in which all outputs lie; null: each in its own
    bool is_used_again = false;                   // by the next run
    bool is_padded = false;                       // a member's inputs were
    bool is_single = false;                       // one member: everything is its own
  };
  void set(const Source& source) {
    source_ = source;
    unit_ = source.is_single ? source.sizes->whole.data() : source.sizes->row.data();
    is_one_copied_ = source.is_used_again && !source.is_padded && source.outputs.size() == 1 &&
                     source.outputs[0].type != DataType::kString;
  }

  // Sets the outputs of `request`, rows from `first_row` on; its status where there is no memory.
  void hand_out(Request& request, int64_t first_row) const {
    if (!is_one_copied_ || !copy_one(request, first_row)) hand_out_any(request, first_row);
  }

 private:
  // What most models and most requests need, without a look at what others may: one
  // output, into memory that the request has kept. Returns whether that was all.
  bool copy_one(Request& request, int64_t first_row) const {
    const Tensor& from = source_.outputs[0];
    Tensor& output = request.outputs[0];
    const std::size_t bytes = size_of(0, request);
    if (!is_free_for(bytes, output.buffer) || !request.wants_on_host(0)) return false;
    view(from, &output);
    if (!source_.is_single) output.shape[0] = request.rows_;
    output.data = output.buffer.data();
    std::memcpy(output.data, rows_of(0, first_row), bytes);
    return true;
  }
  // Whether it may hold a result: memory that the request kept, and nobody else has.
  static bool is_free_for(std::size_t bytes, const Buffer& buffer) {
    return buffer.size_bytes() >= bytes && buffer.is_sole();
  }
  void hand_out_any(Request& request, int64_t first_row) const;
  // Whether a slice would keep too much else alive.
  bool pins_too_much(const Request& request) const;
  bool is_cut(const Request& request) const;
  std::size_t size_of(std::size_t output, const Request& request) const {
    return source_.is_single ? unit_[output]
                             : unit_[output] * static_cast<std::size_t>(request.rows_);
  }
  const std::byte* rows_of(std::size_t output, int64_t first_row) const {
    return source_.outputs[output].data +
           source_.sizes->row[output] * static_cast<std::size_t>(first_row);
  }
  void slice(Request& request, int64_t first_row) const;
  Status copy(Request& request, int64_t first_row) const;
  void copy_rows(std::size_t output, Request& request, int64_t first_row, std::byte* to) const;
  Buffer memory_for(Request& request, std::size_t bytes, Status* status) const;

  BufferPool& pool_;
  const Padding& padding_;
  Source source_;
  const std::size_t* unit_ = nullptr;  // bytes that size_of() counts by
  bool is_one_copied_ = false;         // see copy_one()
};

}  // namespace pyruntime
