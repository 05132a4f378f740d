// One loaded version of a model: its sessions, its scheduler, its statistics.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"
#include "schedule/fair_share.h"
#include "schedule/overlap.h"
#include "schedule/request.h"
#include "schedule/run_plan.h"
#include "schedule/scheduler.h"
#include "serving/input_check.h"

namespace pyruntime {

class Instance;
struct SlotContext;

// Identical instances on one device.
struct InstanceGroup {
  Device device;
  int count = 1;
};

struct ModelOptions {
  SessionOptions session;  // its device is set from `instances`
  BatchingOptions batching;
  std::vector<InstanceGroup> instances = {InstanceGroup{}};
  std::size_t pool_capacity_bytes = std::size_t{1} << 30;  // of staging and results, per device
  bool lock_pages = false;                                 // mlock them
  // Whether loading gives way to those who serve requests.
  bool load_gently = false;
  // A run that takes longer is reported; on a device beside the host its requests
  // fail and the instance is replaced. 0: never.
  std::chrono::nanoseconds stuck_after = std::chrono::seconds(30);
  // Of batches on a device beside the host; none: found by measuring when the model is warmed up.
  std::optional<Overlap> overlap{};
  // Rows of batches that a CUDA device replays as a graph, ascending; smaller ones are filled up.
  // Captured when the version is loaded.
  std::vector<int64_t> graph_rows{};
};

// Where the nodes of a model run that is loaded on `device`.
struct DevicePlacement {
  Device device;
  const Placement& nodes;  // of the version's session
  std::vector<ProviderNodes> by_provider;
};

// What warm-up has found of overlaps on `device`.
struct DeviceOverlap {
  Device device;
  OverlapChoice::Measured measured;
};

// Threads: all calls from any; who calls holds a shared_ptr until the call
// returns and its requests are dropped.
class ModelVersion {
 public:
  // Throws InvalidInput, Unavailable, Unimplemented or EngineError, naming the
  // model. version: at least 1.
  static std::shared_ptr<ModelVersion> load(std::string name, int64_t version,
                                            const ModelSource& source, const ModelOptions& options,
                                            const Clock& clock = SteadyClock::instance());
  // Closes, waits for what is accepted, frees. The last reference may be
  // dropped anywhere: within an on_complete, another thread does this.
  ~ModelVersion();

  ModelVersion(const ModelVersion&) = delete;
  ModelVersion& operator=(const ModelVersion&) = delete;

  const std::string& name() const { return name_; }
  int64_t version() const { return version_; }
  const Signature& signature() const { return *signature_; }
  const ModelOptions& options() const { return options_; }
  // Of each group of instances.
  const std::vector<DevicePlacement>& placement() const { return placement_; }

  // A clean request with the signature's numbers of inputs and outputs, of the
  // model's default priority.
  RequestRef new_request();

  // Puts `tensor` in its place. InvalidInput for an unknown name or one that
  // was set before. The tensor itself is checked at submission.
  [[nodiscard]] Status set_input(Request& request, std::string_view name, Tensor tensor) const;

  // Adds an output to what the request wants, which is nothing else from the
  // first call on (without a call it is everything). InvalidInput if unknown.
  [[nodiscard]] Status want_output(Request& request, std::string_view name) const;

  // Runs the request and waits, on this thread if an instance is free. Returns
  // request.status. The deadline is kept while it waits in the queue.
  Status infer(const RequestRef& request);

  // The same for what nobody must feel, such as a shadow's copies on a thread of
  // low priority: one at a time, in an instance apart, so that no other request ever
  // waits for that thread.
  Status infer_aside(const RequestRef& request);

  // Accepts the request, or says why not (then on_complete is never called).
  // InvalidInput names the input, what was expected and what came; Overloaded
  // when the queue is full; Unavailable when closed.
  [[nodiscard]] Status submit(const RequestRef& request);
  // The same, and gives the caller's reference up if it is accepted.
  [[nodiscard]] Status submit(RequestRef&& request);

  // Beside the host's: where inputs may lie and outputs stay; none where the model runs on the
  // host, or on several devices.
  std::optional<Device> memory_device() const;
  // InvalidInput where inputs may not lie on `device`.
  Status check_memory(Device device) const { return check_inputs_->check_place(device); }

  // Says whether submit() would find anything wrong with the inputs.
  Status check(const Request& request) const;

  // Runs `runs` requests of `rows` rows of zeros on each instance, beside what waits; stats() do
  // not know of them.
  // Dynamic dimensions other than the first count as 1, or as each of the sizes to which they are
  // padded.
  Status warm_up(int64_t rows, int runs);
  // The same with the inputs of `sample`, which is left as it is.
  Status warm_up(const RequestRef& sample, int runs);

  // The same, with the model named unless it is or the mistake is the caller's.
  Status named(Status status) const { return status.ok() ? status : with_name(std::move(status)); }

  SchedulerStatsSnapshot stats() const { return scheduler_->stats(); }
  // Of it, the time from submission to completion alone.
  HistogramSnapshot total() const { return scheduler_->total(); }
  // What batches cost by shape and rows, as the scheduler knows it.
  std::vector<Batcher::BucketCost> costs() const { return scheduler_->costs(); }
  // Which ways batches were tried, by device, shape and payload.
  std::vector<DeviceOverlap> overlaps() const;
  // An input was not contiguous or not aligned and had to be copied.
  void count_input_copied() { stats_.count_input_copied(); }
  BufferPool::Stats pool_stats() const;  // of all its pools together

  // Refuses new requests from now on; close() also waits for the accepted.
  void stop_accepting() { scheduler_->stop_accepting(); }
  void close();
  bool is_accepting() const { return scheduler_->is_accepting(); }
  // Accepted and not done.
  int64_t outstanding() const { return scheduler_->outstanding(); }

 private:
  ModelVersion(std::string name, int64_t version, const ModelOptions& options, const Clock& clock);
  static void end(ModelVersion* model);
  static void free(ModelVersion* model);

  void open(const ModelSource& source, const Clock& clock);
  Status warm_up(int64_t rows, int runs, const Padding::Sizes& sizes);
  Status check_and_count(const Request& request, int64_t* rows) const;
  Status with_name(Status failure) const;

  // Constant after load().
  const std::string name_;
  const int64_t version_;
  const ModelOptions options_;
  const uint64_t fork_generation_;
  std::vector<std::unique_ptr<Session>> sessions_;  // one per device, or instance
  const Signature* signature_ = nullptr;            // the first session's
  std::vector<DevicePlacement> placement_;
  std::optional<InputCheck> check_inputs_;  // against it

  std::unique_ptr<RequestPool> requests_;  // outlives every request
  std::unique_ptr<RunPlan> plan_;
  std::vector<std::unique_ptr<BufferPool>> pools_;
  SchedulerStats stats_;
  // One per group of instances.
  std::vector<std::unique_ptr<FairShare::Member>> shares_;
  std::vector<std::unique_ptr<OverlapChoice>> overlaps_;

  std::unique_ptr<const SlotContext> aside_context_;  // of the first group
  std::mutex aside_mutex_;                            // held while aside_ runs
  std::unique_ptr<Instance> aside_;                   // made when first needed

  std::unique_ptr<Scheduler> scheduler_;  // last: uses all of the above
};

}  // namespace pyruntime
