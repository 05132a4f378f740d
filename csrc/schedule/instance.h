// A share of a session with its streams and room for batches in flight, used by
// one owner at a time: a blocking caller or the instance's resident thread.
//
// When the device does not complete a run in time, the owner replaces streams
// and slots. The old ones stay as they are until the device has completed all
// that it was given, if ever.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/cache_line.h"
#include "base/event_count.h"
#include "schedule/batch_slot.h"
#include "schedule/batcher.h"
#include "schedule/fair_share.h"
#include "schedule/transfer.h"

namespace pyruntime {

class Instance {
 public:
  // Batches in flight at once: two where the device works beside the host, so
  // that one is gathered while the other runs, or three (see Overlap).
  explicit Instance(const SlotContext& context);
  ~Instance();

  // Threads: these from any.

  // A read-modify-write even when it fails; see Scheduler.
  bool try_own() { return ownership_.exchange(kOwned, std::memory_order_acq_rel) != kOwned; }
  // Tells the next owner, and who looks for work, whether it has_carry().
  void disown() {
    ownership_.exchange(has_carry() ? kFreeWithCarry : kFree, std::memory_order_acq_rel);
  }
  // Hints.
  bool looks_free() const { return ownership_.load(std::memory_order_relaxed) != kOwned; }
  bool looks_left_with_carry() const {
    return ownership_.load(std::memory_order_relaxed) == kFreeWithCarry;
  }
  // Exact, by read-modify-writes.
  bool is_owned() { return ownership_.fetch_or(0, std::memory_order_acq_rel) == kOwned; }
  bool is_left_with_carry() {
    return ownership_.fetch_or(0, std::memory_order_acq_rel) == kFreeWithCarry;
  }

  // Whether only its resident thread may run anything here.
  bool keeps_to_thread() const { return context_.session.keeps_to_thread(); }
  // Has the resident, who owns the instance then, call `job`, and waits for it; throws what it
  // throws. Not for the resident.
  void have_resident_do(std::function<void()> job);
  bool has_job() const { return has_job_.load(std::memory_order_acquire); }
  // By the resident that owns it, with nothing running.
  void do_job();

  // Where the resident thread sleeps.
  EventCount& events() { return *events_; }
  // Whether new requests concern the resident while it owns the instance.
  bool has_several_slots() const { return slot_count_ > 1; }
  // Batches that it may always have in flight.
  int64_t depth() const { return static_cast<int64_t>(depth_); }

  // Threads: the rest by the owner alone.

  bool has_free_slot() const {
    return running_ < depth_ || (running_ < slot_count_ && runs_three_deep());
  }
  bool has_running() const { return running_ != 0; }
  bool is_ready() { return running_ != 0 && oldest().is_ready(); }
  // How long until is_ready() whatever the device does; negative: no limit.
  // Before sleeping until then on events().
  void request_notice() {
    if (running_ != 0) oldest().request_notice();
  }
  Nanoseconds time_left() { return running_ != 0 ? oldest().time_left() : Nanoseconds(-1); }
  // Requests for the next batch that are in no queue any more: what did not fit in the
  // last one, and who joined the next while the last was answered.
  bool has_carry() const { return carry_ != nullptr || !batch_.is_empty(); }

  // The batch that is being formed, and what did not fit in it.
  Batch& batch() { return batch_; }
  Request*& carry() { return carry_; }

  // What it computes on is shared with other models.
  FairShare::Member& share() { return context_.share; }

  // Captures what is to be run as graphs. Throws Error.
  void capture_graphs();

  // Runs batch(), sealed, in a free slot; `turn` ends when it has been finished. On
  // the host's own devices it is ready when this returns.
  void start(FairShare::Turn turn);
  // Runs batch(), sealed, and completes it, in nobody's statistics; nothing else may run here. What
  // overlap is best for it is found out before, where it is not known.
  void run_uncounted(Batcher& batcher);
  // Completes the oldest running batch if it is ready, or waits for it.
  bool finish_if_ready(Batcher& batcher);
  void finish_oldest(Batcher& batcher);

 private:
  enum Ownership : uint32_t { kFree, kOwned, kFreeWithCarry };

  // Streams with the batches that they run.
  struct Pipeline {
    Pipeline(const SlotContext& context, const std::string& where, std::size_t slot_count,
             std::shared_ptr<EventCount> events, RunStats& stats);
    ~Pipeline();
    bool is_idle() const;

    const std::shared_ptr<EventCount> events;  // the streams' work calls it
    InstanceStreams streams;
    std::vector<std::unique_ptr<BatchSlot>> slots;
    Pipeline* next_kept = nullptr;  // of those that outlive their instance
  };

  bool runs_three_deep() const;
  void find_overlap();
  BatchSlot& oldest() { return *pipeline_->slots[oldest_]; }
  void count_in(RunStats& stats);
  void start_in_free_slot(Batch& batch, FairShare::Turn turn);
  Status make_pipeline();
  void replace_pipeline();
  void drop_idle_pipelines();

  // Constant after construction.
  const SlotContext context_;
  RunStats& stats_;
  const std::string where_;  // as reports name it
  const std::size_t slot_count_;
  const std::size_t depth_;
  const std::shared_ptr<EventCount> events_;

  // The owner's.
  std::unique_ptr<Pipeline> pipeline_;  // null: the device refused to make another
  std::vector<std::unique_ptr<Pipeline>> lost_pipelines_;
  std::vector<FairShare::Turn> turns_;   // by slot
  std::unique_ptr<RunStats> uncounted_;  // made when needed; never read
  Batch batch_;
  Request* carry_ = nullptr;
  std::size_t oldest_ = 0;   // slot of the oldest running batch
  std::size_t running_ = 0;  // slots in use, from oldest_ on

  int next_graph_ = 1;

  std::mutex jobs_mutex_;  // held by who has a job done
  std::mutex job_mutex_;   // guards job_
  std::shared_ptr<std::packaged_task<void()>> job_;
  std::atomic<bool> has_job_{false};  // written under job_mutex_

  alignas(kCacheLine) std::atomic<uint32_t> ownership_{kFree};
};

}  // namespace pyruntime
