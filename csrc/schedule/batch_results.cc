#include "schedule/batch_results.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/string_tensor.h"
#include "memory/box_copy.h"

namespace pyruntime {
namespace {

bool is_string(const Tensor& tensor) { return tensor.type == DataType::kString; }

}  // namespace

void TensorSizes::measure(std::span<const Tensor> tensors) {
  whole.clear();
  row.clear();
  for (const Tensor& tensor : tensors) {
    whole.push_back(tensor.data == nullptr ? 0 : tensor.size_bytes());
    row.push_back(tensor.shape.rank() == 0 ? whole.back() : tensor.row_bytes());
  }
}

void BatchResults::hand_out_any(Request& request, int64_t first_row) const {
  const bool is_copied = source_.is_used_again || is_cut(request);
  if (!is_copied) {
    slice(request, first_row);
    if (!pins_too_much(request)) return;
  }
  Status status = copy(request, first_row);
  // Where there is no memory, slices are better than nothing.
  if (is_copied && !status.ok()) request.status = std::move(status);
}

bool BatchResults::is_cut(const Request& request) const {
  if (!source_.is_padded) return false;
  for (std::size_t i = 0; i < source_.outputs.size(); ++i) {
    const Tensor& output = source_.outputs[i];
    if (!request.wants_on_host(i) || output.data == nullptr) continue;
    if (padding_.cut(i, output.shape, request.inputs, *source_.inputs) != output.shape) return true;
  }
  return false;
}

void BatchResults::slice(Request& request, int64_t first_row) const {
  for (std::size_t i = 0; i < source_.outputs.size(); ++i) {
    const Tensor& from = source_.outputs[i];
    if (!request.wants_on_host(i) || from.data == nullptr) continue;
    Tensor& output = request.outputs[i];
    view(from, &output);
    if (!source_.is_single) {
      output.shape[0] = request.rows_;
      output.data += source_.sizes->row[i] * static_cast<std::size_t>(first_row);
    }
    output.buffer = source_.memory != nullptr ? *source_.memory : from.buffer;
  }
}

bool BatchResults::pins_too_much(const Request& request) const {
  std::size_t used = 0;
  std::size_t pinned = 0;
  for (std::size_t i = 0; i < source_.outputs.size(); ++i) {
    if (source_.outputs[i].data == nullptr) continue;
    const bool is_used = request.wants_on_host(i);
    if (is_used) used += size_of(i, request);
    if (is_used || source_.memory != nullptr) pinned += source_.sizes->whole[i];
  }
  return used * kSmallShare < pinned;
}

Buffer BatchResults::memory_for(Request& request, std::size_t bytes, Status* status) const {
  // What the request kept of an earlier result of its own; see RequestPool.
  for (Tensor& output : request.outputs) {
    if (is_free_for(bytes, output.buffer)) return std::move(output.buffer);
  }
  return pool_.allocate(at_least_one(bytes), status);
}

// Outputs are as large as in the batch, for the request's rows; one that is cut leaves a gap.
Status BatchResults::copy(Request& request, int64_t first_row) const {
  std::size_t bytes = 0;
  std::size_t last = source_.outputs.size();
  for (std::size_t i = 0; i < source_.outputs.size(); ++i) {
    const Tensor& from = source_.outputs[i];
    if (!request.wants_on_host(i) || from.data == nullptr || is_string(from)) continue;
    last = i;
    bytes += aligned(size_of(i, request));
  }
  Status status;
  Buffer memory;
  if (last != source_.outputs.size()) {
    memory = memory_for(request, bytes, &status);
    if (!memory) return status;
  }
  std::byte* to = memory.data();
  for (std::size_t i = 0; i < source_.outputs.size(); ++i) {
    const Tensor& from = source_.outputs[i];
    if (!request.wants_on_host(i) || from.data == nullptr) continue;
    Tensor& output = request.outputs[i];
    if (is_string(from)) {
      const auto* const first = reinterpret_cast<const StringRef*>(rows_of(i, first_row));
      Buffer strings =
          copy_strings({first, size_of(i, request) / sizeof(StringRef)}, pool_, &status);
      if (!strings) continue;  // the slice stays
      output.data = strings.data();
      output.buffer = std::move(strings);
      continue;
    }
    copy_rows(i, request, first_row, to);
    if (i != last) output.buffer = memory;
    to += aligned(size_of(i, request));
  }
  if (last != source_.outputs.size()) request.outputs[last].buffer = std::move(memory);
  return {};
}

void BatchResults::copy_rows(std::size_t i, Request& request, int64_t first_row,
                             std::byte* to) const {
  const Tensor& from = source_.outputs[i];
  Tensor& output = request.outputs[i];
  view(from, &output);
  if (!source_.is_single) output.shape[0] = request.rows_;
  output.data = to;
  if (source_.is_padded) {
    const Shape rows = output.shape;
    output.shape = padding_.cut(i, rows, request.inputs, *source_.inputs);
    if (output.shape != rows) {
      copy_box(rows_of(i, first_row), rows, to, output.shape, output.shape,
               element_size_bytes(from.type));
      return;
    }
  }
  std::memcpy(to, rows_of(i, first_row), size_of(i, request));
}

}  // namespace pyruntime
