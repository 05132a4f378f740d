// The outputs of a batch that stay in the device's memory: slices of the
// batch's own that keep it alive, or copies: where the memory is used again by
// the next run, where a slice would be a small part of what it keeps alive,
// where rows are cut back, and where the caller has said into what memory.
//
// Threads: the owner of the instance.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/error.h"
#include "memory/buffer_pool.h"
#include "memory/stream.h"
#include "memory/tensor.h"
#include "schedule/batch.h"
#include "schedule/batch_results.h"
#include "schedule/padding.h"

namespace pyruntime {

class DeviceResults {
 public:
  // All must outlive it.
  DeviceResults(const Signature& signature, BufferPool& device_pool, const Padding& padding)
      : signature_(signature), pool_(device_pool), padding_(padding) {}

  // Whether a member wants outputs on the device, or on the host: all of them, or this one.
  static bool are_in(const Batch& batch);
  static bool is_fetched(const Batch& batch, std::size_t output);

  // Gives to `stream` the copies that are made of what the run writes. source: as of the run,
  // whose outputs lie on the device.
  Status give(Stream& stream, const Batch& batch, const BatchResults::Source& source);

  // After the run: sets the outputs of the member of that number, or its status.
  void hand_out(Request& request, std::size_t member);

  // When the stream has done the run, or members are run anew.
  void reset() { members_.clear(); }

 private:
  // Of a member.
  struct Outputs {
    std::vector<Tensor> tensors;  // data null: not here
    std::vector<Buffer> written;  // what the stream writes to: kept should it never end
    Status status;
  };
  struct Given;
  Status give_one(const Given& given, Outputs* outputs) const;

  const Signature& signature_;
  BufferPool& pool_;
  const Padding& padding_;
  std::vector<Outputs> members_;
};

}  // namespace pyruntime
