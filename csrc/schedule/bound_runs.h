// Runs bound to fixed memory of a batch slot, one for each shape and number of rows; small ones,
// and those that were captured as graphs of the device.
//
// Threads: the owner of the instance; what captures, the thread that will run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/session.h"
#include "memory/buffer.h"
#include "memory/stream.h"
#include "memory/tensor.h"
#include "schedule/batch_results.h"
#include "schedule/slot_context.h"

namespace pyruntime {

struct Bucket;

// A run bound to its place in memory.
struct BoundBatch {
  bool is_tried = false;
  bool is_graph = false;
  int64_t rows = 0;
  std::unique_ptr<BoundRun> run;  // null: does not fit or is not supported
  // On the host; the engine's are these where it computes there.
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
  TensorSizes output_sizes;
  // On the device, inputs first, then outputs, at the same places.
  std::size_t input_bytes = 0;
  std::size_t output_bytes = 0;
  std::byte* device_inputs = nullptr;
  std::byte* device_outputs = nullptr;
  // A graph's own.
  Buffer host_memory;
  Buffer device_memory;
};

class BoundRuns {
 public:
  // `context` must outlive it. Without memory for them there are no bound runs.
  explicit BoundRuns(const SlotContext& context);

  // The smallest graph for as many rows; null: none.
  BoundBatch* find_graph(int64_t rows);
  // The place for batches of that shape, null where they have none. Before it is first used it
  // is not tried: then its inputs get their shapes, and bind() is called.
  BoundBatch* place_of(const Bucket& bucket, int64_t rows);
  void bind(BoundBatch* bound);

  // Captures a run of each of graph_rows, on zeros, numbered from `first` on. Throws Error.
  void capture_graphs(Stream& stream, int first);

 private:
  void capture_graph(Stream& stream, int64_t rows, int number);
  void place_at(std::byte* host, std::byte* device, BoundBatch* bound) const;
  std::vector<Tensor> on_device(const std::vector<Tensor>& host, std::byte* base) const;

  const SlotContext& context_;
  const bool on_host_;  // the device computes on host memory
  const int64_t max_rows_;
  Buffer memory_;
  Buffer device_memory_;                        // the same, where the host's is not the device's
  std::vector<std::vector<BoundBatch>> small_;  // by bucket, then rows
  std::vector<BoundBatch> graphs_;              // by rows, ascending
};

}  // namespace pyruntime
