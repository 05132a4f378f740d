#include "schedule/bound_runs.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "schedule/batcher.h"
#include "schedule/placement.h"

namespace pyruntime {
namespace {

// Up to this many bytes of inputs and outputs, copying rows into bound memory
// is cheaper than describing the caller's memory to the engine.
constexpr std::size_t kBoundBytes = std::size_t{64} << 10;

// Bindings are kept for each number of rows up to this, of so many shapes.
constexpr int64_t kMaxBoundRows = 256;
constexpr std::size_t kMaxBoundBuckets = 16;

}  // namespace

BoundRuns::BoundRuns(const SlotContext& context)
    : context_(context),
      on_host_(context.backend.is_host_accessible()),
      max_rows_(std::min(context.max_rows, kMaxBoundRows)) {
  if (context_.plan.has_strings()) return;
  Status ignored;  // without it every batch takes one of the other ways
  memory_ = context_.host_pool.allocate(kBoundBytes, &ignored);
  if (on_host_) return;
  device_memory_ = context_.device_pool->allocate(kBoundBytes, &ignored);
  if (!device_memory_) memory_.reset();
}

BoundBatch* BoundRuns::find_graph(int64_t rows) {
  if (graphs_.empty() || rows < 1) return nullptr;
  const auto found = std::ranges::lower_bound(graphs_, rows, {}, &BoundBatch::rows);
  return found == graphs_.end() ? nullptr : &*found;
}

BoundBatch* BoundRuns::place_of(const Bucket& bucket, int64_t rows) {
  if (!memory_ || !bucket.has_fixed_shapes || bucket.index >= kMaxBoundBuckets || rows < 1 ||
      rows > max_rows_) {
    return nullptr;
  }
  if (small_.size() <= bucket.index) small_.resize(bucket.index + 1);
  std::vector<BoundBatch>& by_rows = small_[bucket.index];
  if (by_rows.empty()) by_rows.resize(static_cast<std::size_t>(max_rows_) + 1);
  BoundBatch& bound = by_rows[static_cast<std::size_t>(rows)];
  bound.rows = rows;
  return &bound;
}

void BoundRuns::bind(BoundBatch* bound) {
  bound->is_tried = true;
  context_.plan.shape_outputs(bound->inputs, Device{}, &bound->outputs);
  if (place(bound->inputs, nullptr) + place(bound->outputs, nullptr) > kBoundBytes) {
    bound->inputs = {};
    bound->outputs = {};
    return;
  }
  place_at(memory_.data(), device_memory_.data(), bound);
  bound->run = on_host_ ? context_.session.bind(bound->inputs, bound->outputs)
                        : context_.session.bind(on_device(bound->inputs, bound->device_inputs),
                                                on_device(bound->outputs, bound->device_outputs));
}

void BoundRuns::place_at(std::byte* host, std::byte* device, BoundBatch* bound) const {
  bound->input_bytes = place(bound->inputs, host);
  bound->output_bytes = place(bound->outputs, host + bound->input_bytes);
  bound->output_sizes.measure(bound->outputs);
  if (device == nullptr) return;
  bound->device_inputs = device;
  bound->device_outputs = device + bound->input_bytes;
}

std::vector<Tensor> BoundRuns::on_device(const std::vector<Tensor>& host, std::byte* base) const {
  std::vector<Tensor> tensors(host.size());
  for (std::size_t i = 0; i < host.size(); ++i) view(host[i], &tensors[i]);
  place(tensors, base);
  for (Tensor& tensor : tensors) tensor.device = context_.session.device();
  return tensors;
}

void BoundRuns::capture_graphs(Stream& stream, int first) {
  graphs_.reserve(context_.graph_rows.size());  // others point into it
  for (const int64_t rows : context_.graph_rows) capture_graph(stream, rows, first++);
}

void BoundRuns::capture_graph(Stream& stream, int64_t rows, int number) {
  const Signature& signature = context_.plan.signature();
  BoundBatch graph;
  graph.is_tried = true;
  graph.is_graph = true;
  graph.rows = rows;
  for (const TensorSpec& spec : signature.inputs) {
    Tensor& input = graph.inputs.emplace_back();
    input.type = spec.type;
    input.shape = Shape(spec.dims);
    if (signature.is_batchable) input.shape[0] = rows;
  }
  context_.plan.shape_outputs(graph.inputs, Device{}, &graph.outputs);
  const std::size_t bytes =
      at_least_one(place(graph.inputs, nullptr) + place(graph.outputs, nullptr));
  Status status;
  graph.host_memory = context_.host_pool.allocate(bytes, &status);
  status.throw_if_failed();
  graph.device_memory = context_.device_pool->allocate(bytes, &status);
  status.throw_if_failed();
  place_at(graph.host_memory.data(), graph.device_memory.data(), &graph);
  // As a warm-up's.
  std::memset(graph.host_memory.data(), 0, bytes);
  stream.copy(graph.device_memory.data(), graph.host_memory.data(), bytes, CopyKind::kHostToDevice);
  stream.synchronize().throw_if_failed();
  graph.run = context_.session.capture(stream, on_device(graph.inputs, graph.device_inputs),
                                       on_device(graph.outputs, graph.device_outputs), number);
  graphs_.push_back(std::move(graph));
}

}  // namespace pyruntime
