// One batch in flight: its inputs gathered, run on a stream, its outputs
// handed out.
//
// Four ways, by what is known and where the device reads:
//   bound    small, shapes known: rows are copied into fixed memory to which
//            the engine is bound, results out of it; no binding a run. Larger
//            too where the run was captured as a graph of the device, which
//            may have more rows than the batch
//   direct   one request, host memory: the engine reads the caller's memory
//   gathered several requests, host memory: rows are copied into one buffer
//   device   as gathered, and through the device's memory (transfer.h); what
//            members have there already, or want to stay there, does not pass
//            through the host (device_inputs.h, device_results.h)
// But for `bound`, results are slices of one buffer that keep it alive, or
// copies where a slice would be a small part of it.
//
// A device that does not complete a run in time (stuck_after) loses it: the
// members fail, and the slot keeps what the device may still write to until
// it is destroyed.
//
// Threads: the owner of the instance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event_count.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"
#include "memory/device.h"
#include "schedule/active_runs.h"
#include "schedule/batch.h"
#include "schedule/batch_results.h"
#include "schedule/batcher.h"
#include "schedule/bound_runs.h"
#include "schedule/device_inputs.h"
#include "schedule/device_results.h"
#include "schedule/fair_share.h"
#include "schedule/overlap.h"
#include "schedule/run_plan.h"
#include "schedule/scheduler_stats.h"
#include "schedule/slot_context.h"
#include "schedule/transfer.h"

namespace pyruntime {

class BatchSlot {
 public:
  // where: the instance, as reports name it. events: where the owner sleeps; must
  // outlive the streams, as must the slot.
  BatchSlot(const SlotContext& context, const std::string& where, InstanceStreams& streams,
            EventCount& events, RunStats& stats);

  // Captures a run of each of graph_rows, with graphs numbered from `first` on, on the thread that
  // will run them. Throws Error.
  void capture_graphs(int first) { bound_runs_.capture_graphs(transfer_.compute(), first); }

  // Where the batches to come are counted.
  void count_in(RunStats& stats) { stats_ = &stats; }

  // Takes over a sealed batch, gathers it and gives it to the streams. One that
  // is behind another there is not late before resume().
  void start(Batch& batch, bool is_behind);
  void resume() { run_.renew(context_.clock.now()); }

  // Whether finish() would not wait.
  bool is_ready() const { return transfer_.done().is_ready() || is_overdue(); }
  // How long until the run is overdue; negative: no limit.
  Nanoseconds time_left() const;
  // Has `events` notified when the device has completed the run: for who looks no
  // longer and is going to sleep.
  void request_notice();

  // Waits for the run and completes every member. If a batch of several
  // failed, each runs again alone, so that only the bad one fails. Returns
  // false when the outputs showed that requests must not be batched.
  bool finish();

  // Whether the device did not complete the run: only destroying the slot is
  // left to do, once is_idle().
  bool is_lost() const { return is_lost_; }
  // Gives back a batch that was started behind one that is lost. The slot is
  // lost with it.
  void give_back(Batch* batch);

  // Runs a batch that stays its owner's, and whose members nobody answers; to see how long it
  // takes. finish_trial() waits for the run, or loses the slot as finish() does; give_up_trial() is
  // for one that was started behind a lost one.
  void start_trial(const Batch& batch, Overlap overlap);
  Status finish_trial();
  void give_up_trial();
  // Bytes of its inputs, and of its outputs as far as they are known.
  std::size_t payload_bytes(const Batch& batch);

  // How the batch in flight is.
  Overlap overlap() const { return overlap_; }
  // No longer seen by the watchdog and by who cancels.
  void leave() { run_.leave(); }
  // Whether the device has completed all that this slot gave to it.
  bool is_idle() const { return transfer_.done().is_ready(); }

  // Answers a sealed batch without a run.
  static void refuse(const SlotContext& context, Batch& batch, const Status& status);

 private:
  // What a run may do that another try must not.
  struct Way {
    bool may_preallocate = true;
    bool may_pad = true;
    std::optional<Overlap> overlap{};  // as told, not as known to be best
  };

  void begin(Way way, TimePoint since);
  bool needs_padding() const;
  BoundBatch* find_bound();
  Status prepare_bound();
  Status run_bound();
  Status prepare();
  Status prepare_on_host();
  Status prepare_on_device();
  Status gather_in_staging(std::size_t bytes);
  void plan_outputs();
  Status allocate_outputs();
  Status launch();
  Status fetch_outputs();
  Status fetch_outputs_one_by_one();
  void gather(std::vector<Tensor>& inputs) const;
  void shape_inputs(std::vector<Tensor>* inputs) const;

  Status outcome();
  Status wait();
  bool is_overdue() const;
  bool uses_preallocated() const { return bound_ != nullptr || is_preallocated_; }
  bool outputs_follow_rows() const;
  bool outputs_were_as_planned();
  void scatter();
  void describe_results();
  void count(const Request& request);
  void count_results();
  void answer_all();
  void fail(const Status& status);
  void run_each_alone();
  void forget_run();

  // Constant after construction.
  const SlotContext context_;
  EventCount& events_;
  const bool on_host_;  // the device computes on host memory

  Transfer transfer_;
  RunStats* stats_;
  ActiveRun run_;
  bool is_lost_ = false;
  std::vector<Request*> retried_;  // a failed batch's members, while each runs alone
  BoundRuns bound_runs_;
  BatchResults batch_results_;
  std::optional<DeviceInputs> device_gather_;  // these two where the host cannot reach the memory
  std::optional<DeviceResults> device_results_;

  // Of the batch in flight.
  Batch batch_;
  BoundBatch* bound_ = nullptr;
  bool is_preallocated_ = false;
  bool is_padded_ = false;   // a member's inputs were
  bool has_notice_ = false;  // requested for this run
  Overlap overlap_ = Overlap::kNone;
  Way way_;
  OutputMask wanted_ = kAllOutputs;
  Status status_;
  TimePoint gathered_at_{};
  TimePoint ran_at_{};
  TimePoint answered_at_{};
  std::vector<Tensor> inputs_;   // what the engine reads
  std::vector<Tensor> outputs_;  // what the engine writes
  std::vector<Tensor> results_;  // the outputs where the host reads them
  TensorSizes sizes_;            // of the outputs, unless bound
  Buffer staging_;               // rows gathered on the host
  Buffer device_inputs_;
  Buffer device_outputs_;
  Buffer result_memory_;
};

}  // namespace pyruntime
