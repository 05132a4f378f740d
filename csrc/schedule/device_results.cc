#include "schedule/device_results.h"

#include <algorithm>
#include <string>
#include <utility>

#include "memory/box_copy.h"
#include "schedule/placement.h"

namespace pyruntime {

// A member and its rows of what the run writes.
struct DeviceResults::Given {
  Stream& stream;
  const Request& request;
  const BatchResults::Source& source;
  int64_t first_row;
  int64_t rows;

  const Tensor& output(std::size_t i) const { return source.outputs[i]; }
  std::byte* data(std::size_t i) const {
    return output(i).data + source.sizes->row[i] * static_cast<std::size_t>(first_row);
  }
  std::size_t bytes(std::size_t i) const {
    return source.is_single ? source.sizes->whole[i]
                            : source.sizes->row[i] * static_cast<std::size_t>(rows);
  }
  Shape shape(std::size_t i) const {
    Shape shape = output(i).shape;
    if (!source.is_single) shape[0] = rows;
    return shape;
  }
};

bool DeviceResults::are_in(const Batch& batch) {
  return std::ranges::any_of(batch.members,
                             [](const Request* request) { return request->has_device_outputs(); });
}

bool DeviceResults::is_fetched(const Batch& batch, std::size_t output) {
  return std::ranges::any_of(
      batch.members, [&](const Request* request) { return request->wants_on_host(output); });
}

Status DeviceResults::give(Stream& stream, const Batch& batch, const BatchResults::Source& source) {
  members_.resize(batch.members.size());
  int64_t row = 0;
  for (std::size_t member = 0; member < batch.members.size(); ++member) {
    const Request& request = *batch.members[member];
    if (request.has_device_outputs()) {
      const Given given{stream, request, source, row, request.rows_};
      Status status = give_one(given, &members_[member]);
      if (status.code() == ErrorCode::kInvalidInput) {
        members_[member].status = std::move(status);  // its own mistake
      } else if (!status.ok()) {
        return status;
      }
    }
    row += request.rows_;
  }
  return {};
}

Status DeviceResults::give_one(const Given& given, Outputs* outputs) const {
  const BatchResults::Source& source = given.source;
  const std::size_t count = source.outputs.size();
  outputs->tensors.resize(count);
  std::size_t used = 0;
  std::size_t pinned = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (given.output(i).data == nullptr) continue;
    const bool is_here = given.request.wants_on_device(i) && given.request.target_of(i) == nullptr;
    if (is_here) used += given.bytes(i);
    if (is_here || source.memory != nullptr) pinned += source.sizes->whole[i];
  }
  const bool is_copied = source.is_used_again || used * kSmallShare < pinned;
  for (std::size_t i = 0; i < count; ++i) {
    const Tensor& from = given.output(i);
    if (!given.request.wants_on_device(i) || from.data == nullptr) continue;
    Tensor& output = outputs->tensors[i];
    const Shape rows = given.shape(i);
    output.type = from.type;
    output.device = pool_.device();
    output.shape =
        source.is_padded ? padding_.cut(i, rows, given.request.inputs, *source.inputs) : rows;
    const std::size_t bytes = output.size_bytes();
    if (const Tensor* const target = given.request.target_of(i)) {
      if (bytes > target->size_bytes()) {
        return {ErrorCode::kInvalidInput,
                "output '" + signature_.outputs[i].name + "': expected memory of at least " +
                    std::to_string(bytes) + " bytes for " + describe(output) + ", got " +
                    std::to_string(target->size_bytes())};
      }
      output.data = target->data;
      output.buffer = target->buffer;
    } else if (is_copied || output.shape != rows) {
      Status status;
      output.buffer = pool_.allocate(at_least_one(bytes), &status);
      // Where there is no memory, a slice is better than nothing.
      if (!status.ok() && (source.is_used_again || output.shape != rows)) return status;
      output.data = output.buffer.data();
    }
    if (output.data == nullptr) {
      output.data = given.data(i);
      output.buffer = source.memory != nullptr ? *source.memory : from.buffer;
      continue;
    }
    outputs->written.push_back(output.buffer);
    visit_box(rows, output.shape, output.shape, element_size_bytes(output.type),
              [&](std::size_t from_at, std::size_t to_at, std::size_t size) {
                given.stream.copy(output.data + to_at, given.data(i) + from_at, size,
                                  CopyKind::kDeviceToDevice);
              });
  }
  return {};
}

void DeviceResults::hand_out(Request& request, std::size_t member) {
  Outputs& outputs = members_[member];
  if (!outputs.status.ok()) {
    request.status = std::move(outputs.status);
    return;
  }
  for (std::size_t i = 0; i < outputs.tensors.size(); ++i) {
    if (outputs.tensors[i].data != nullptr) request.outputs[i] = std::move(outputs.tensors[i]);
  }
}

}  // namespace pyruntime
