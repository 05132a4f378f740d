#include "schedule/device_inputs.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "memory/box_copy.h"
#include "schedule/placement.h"

namespace pyruntime {
namespace {

// As far as engines count on, and as tensors are placed.
constexpr std::size_t kAlignment = aligned(1);

bool is_on_device(const Tensor& tensor) { return tensor.device != Device{}; }

}  // namespace

// What is written from the front to the back of the memory: pieces from the host, of which
// neighbours go in one copy, and pieces of the device's own memory.
class DeviceInputs::Copies {
 public:
  Copies(Stream& stream, const Buffer& staging, const Buffer& memory)
      : stream_(stream), staging_(staging), memory_(memory) {}

  // Where a piece from the host is to be written by the host.
  std::byte* from_host(std::size_t at, std::size_t bytes) {
    if (first_ == last_) first_ = at;
    last_ = at + bytes;
    return staging_.data() + at;
  }
  // Over what came from the host before, if that was the same place.
  void from_device(const std::byte* from, std::size_t at, std::size_t bytes) {
    send_from_host();
    stream_.copy(memory_.data() + at, from, bytes, CopyKind::kDeviceToDevice);
  }
  void send_from_host() {
    if (first_ == last_) return;
    stream_.copy(memory_.data() + first_, staging_.data() + first_, last_ - first_,
                 CopyKind::kHostToDevice);
    first_ = last_;
  }

 private:
  Stream& stream_;
  const Buffer& staging_;
  const Buffer& memory_;
  // Of the staging, not sent yet.
  std::size_t first_ = 0;
  std::size_t last_ = 0;
};

bool DeviceInputs::are_in(const Batch& batch) {
  return std::ranges::any_of(batch.members, [](const Request* request) {
    return std::ranges::any_of(request->inputs, is_on_device);
  });
}

bool DeviceInputs::may_be_read_in_place(const Batch& batch, bool is_padded,
                                        std::size_t input) const {
  if (batch.members.size() != 1 || is_padded) return false;
  const Tensor& given = batch.members.front()->inputs[input];
  return is_on_device(given) && reinterpret_cast<uintptr_t>(given.data) % kAlignment == 0;
}

Status DeviceInputs::gather(Stream& stream, const Batch& batch, bool is_padded,
                            std::vector<Tensor>* inputs) {
  std::size_t bytes = 0;
  std::size_t staged_bytes = 0;  // up to the last byte that comes from the host
  bool is_gathered = false;
  for (std::size_t i = 0; i < inputs->size(); ++i) {
    if (may_be_read_in_place(batch, is_padded, i)) continue;
    is_gathered = true;
    bytes += aligned((*inputs)[i].size_bytes());
    const bool is_staged = is_padded || std::ranges::any_of(batch.members, [&](const Request* one) {
                             return !is_on_device(one->inputs[i]);
                           });
    if (is_staged) staged_bytes = bytes;
  }
  Status status;
  if (staged_bytes != 0) staging_ = host_pool_.allocate(staged_bytes, &status);
  if (status.ok() && is_gathered) memory_ = device_pool_.allocate(at_least_one(bytes), &status);
  if (!status.ok()) return status;

  for (const Request* request : batch.members) {
    for (const Tensor& input : request->inputs) {
      if (Event* const ready = input.buffer.ready()) stream.wait(*ready);
    }
  }
  Copies copies(stream, staging_, memory_);
  std::size_t start = 0;  // of an input
  for (std::size_t i = 0; i < inputs->size(); ++i) {
    Tensor& input = (*inputs)[i];
    input.device = device_pool_.device();
    if (may_be_read_in_place(batch, is_padded, i)) {
      input.data = batch.members.front()->inputs[i].data;
      continue;
    }
    const std::size_t element_bytes = element_size_bytes(input.type);
    std::size_t at = start;
    for (const Request* request : batch.members) {
      const Tensor& given = request->inputs[i];
      Shape shape = input.shape;
      if (shape.rank() != 0) shape[0] = given.shape[0];
      const std::size_t piece_bytes = size_bytes_of(input.type, shape).value_or(0);
      if (!is_on_device(given)) {
        std::byte* const to = copies.from_host(at, piece_bytes);
        if (is_padded) {
          padding_.fill(i, given, input.shape, to);
        } else {
          std::memcpy(to, given.data, piece_bytes);
        }
      } else if (shape == given.shape) {
        copies.from_device(given.data, at, piece_bytes);
      } else {
        padding_.fill(i, element_bytes, piece_bytes, copies.from_host(at, piece_bytes));
        visit_box(given.shape, shape, given.shape, element_bytes,
                  [&](std::size_t from, std::size_t to, std::size_t size) {
                    copies.from_device(given.data + from, at + to, size);
                  });
      }
      at += piece_bytes;
    }
    input.data = memory_.data() + start;
    start += aligned(input.size_bytes());
  }
  copies.send_from_host();
  return {};
}

}  // namespace pyruntime
