// The inputs of a batch of which some lie in the device's memory already: they
// are read where they lie, or brought together there, with those that come from
// the host. No host waits for them: the stream does, for whoever still writes.
//
// Threads: the owner of the instance.
#pragma once

#include <cstddef>
#include <vector>

#include "base/error.h"
#include "memory/buffer_pool.h"
#include "memory/stream.h"
#include "memory/tensor.h"
#include "schedule/batch.h"
#include "schedule/padding.h"

namespace pyruntime {

class DeviceInputs {
 public:
  // All must outlive it.
  DeviceInputs(BufferPool& host_pool, BufferPool& device_pool, const Padding& padding)
      : host_pool_(host_pool), device_pool_(device_pool), padding_(padding) {}

  // Whether a member has an input on the device.
  static bool are_in(const Batch& batch);

  // Gives to `stream` what brings the members' inputs together, and sets data and device of
  // `inputs`, whose types and shapes are those of the run.
  Status gather(Stream& stream, const Batch& batch, bool is_padded, std::vector<Tensor>* inputs);

  // When the stream has done the run.
  void reset() {
    staging_.reset();
    memory_.reset();
  }

 private:
  class Copies;
  bool may_be_read_in_place(const Batch& batch, bool is_padded, std::size_t input) const;

  BufferPool& host_pool_;
  BufferPool& device_pool_;
  const Padding& padding_;
  Buffer staging_;  // of the inputs that come from the host; laid out as memory_
  Buffer memory_;
};

}  // namespace pyruntime
