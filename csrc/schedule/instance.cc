#include "schedule/instance.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "schedule/overlap_trials.h"

namespace pyruntime {

Instance::Pipeline::Pipeline(const SlotContext& context, const std::string& where,
                             std::size_t slot_count, std::shared_ptr<EventCount> notified,
                             RunStats& stats)
    : events(std::move(notified)), streams(context.backend, context.session.stream()) {
  for (std::size_t i = 0; i < slot_count; ++i) {
    slots.push_back(std::make_unique<BatchSlot>(context, where, streams, *events, stats));
  }
}

Instance::Pipeline::~Pipeline() {
  streams.close();  // waits for work that uses the slots
}

bool Instance::Pipeline::is_idle() const {
  return std::all_of(slots.begin(), slots.end(), [](const auto& slot) { return slot->is_idle(); });
}

Instance::Instance(const SlotContext& context)
    : context_(context),
      stats_(context.stats.add_instance()),
      where_("instance " + std::to_string(context.stats.instance_count() - 1) + " on " +
             context.backend.device().name()),
      slot_count_(context.backend.is_host_accessible() ? 1 : batches_in_flight(Overlap::kThree)),
      depth_(std::min(slot_count_, batches_in_flight(Overlap::kNone))),
      events_(std::make_shared<EventCount>()),
      pipeline_(std::make_unique<Pipeline>(context_, where_, slot_count_, events_, stats_)),
      turns_(slot_count_) {
  batch_.members.reserve(static_cast<std::size_t>(context.max_rows));
}

Instance::~Instance() {
  drop_idle_pipelines();
  if (lost_pipelines_.empty()) return;
  // The device may still write to their memory: it is never given back.
  static std::mutex mutex;
  static Pipeline* kept = nullptr;  // guarded by mutex
  const std::lock_guard lock(mutex);
  for (auto& pipeline : lost_pipelines_) {
    pipeline->next_kept = kept;
    kept = pipeline.release();
  }
}

void Instance::drop_idle_pipelines() {
  std::erase_if(lost_pipelines_, [](const auto& pipeline) { return pipeline->is_idle(); });
}

void Instance::have_resident_do(std::function<void()> job) {
  const std::lock_guard one_at_a_time(jobs_mutex_);
  // Shared: the resident may still be leaving it when this returns.
  const auto task = std::make_shared<std::packaged_task<void()>>(std::move(job));
  std::future<void> done = task->get_future();
  {
    const std::lock_guard lock(job_mutex_);
    job_ = task;
    has_job_.store(true, std::memory_order_release);  // pairs with has_job()
  }
  events_->notify_all();
  done.get();
}

void Instance::do_job() {
  std::shared_ptr<std::packaged_task<void()>> job;
  {
    const std::lock_guard lock(job_mutex_);
    job.swap(job_);
    has_job_.store(false, std::memory_order_release);  // pairs with has_job()
  }
  if (job != nullptr) (*job)();
}

void Instance::capture_graphs() {
  for (const auto& slot : pipeline_->slots) {
    slot->capture_graphs(next_graph_);
    next_graph_ += static_cast<int>(context_.graph_rows.size());
  }
}

void Instance::start(FairShare::Turn turn) {
  if (!lost_pipelines_.empty()) drop_idle_pipelines();
  if (pipeline_ == nullptr) {
    if (Status status = make_pipeline(); !status.ok()) {
      BatchSlot::refuse(context_, batch_, status);
      return;
    }
  }
  start_in_free_slot(batch_, std::move(turn));
}

bool Instance::runs_three_deep() const {
  for (std::size_t i = 0; i < running_; ++i) {
    const BatchSlot& slot = *pipeline_->slots[(oldest_ + i) % slot_count_];
    if (slot.overlap() != Overlap::kThree) return false;
  }
  return true;
}

void Instance::find_overlap() {
  if (slot_count_ == 1 || pipeline_ == nullptr) return;
  const std::size_t bucket = batch_.bucket->index;
  const std::size_t bytes = pipeline_->slots[0]->payload_bytes(batch_);
  if (!context_.overlap.is_unknown(bucket, bytes)) return;
  if (const auto times = time_overlaps(pipeline_->slots, batch_, context_.share, context_.clock)) {
    context_.overlap.record(bucket, batch_.bucket->tails, bytes, *times);
  }
  const auto& slots = pipeline_->slots;
  if (std::ranges::any_of(slots, [](const auto& slot) { return slot->is_lost(); })) {
    replace_pipeline();
  }
}

void Instance::run_uncounted(Batcher& batcher) {
  find_overlap();
  batch_.formed_at = context_.clock.now();  // what it costs begins here
  if (uncounted_ == nullptr) uncounted_ = std::make_unique<RunStats>(context_.max_rows);
  count_in(*uncounted_);
  start(context_.share.begin([&] { return batcher.expected_run(); }));
  while (has_running()) finish_oldest(batcher);
  count_in(stats_);
}

void Instance::count_in(RunStats& stats) {
  if (pipeline_ == nullptr) return;
  for (const auto& slot : pipeline_->slots) slot->count_in(stats);
}

void Instance::start_in_free_slot(Batch& batch, FairShare::Turn turn) {
  const bool is_behind = running_ != 0;
  const std::size_t slot = (oldest_ + running_) % slot_count_;
  turns_[slot] = std::move(turn);
  pipeline_->slots[slot]->start(batch, is_behind);
  ++running_;
}

bool Instance::finish_if_ready(Batcher& batcher) {
  if (running_ == 0 || !oldest().is_ready()) return false;
  finish_oldest(batcher);
  return true;
}

void Instance::finish_oldest(Batcher& batcher) {
  BatchSlot& slot = oldest();
  if (!slot.finish()) batcher.stop_batching();
  turns_[oldest_].end();
  if (slot.is_lost()) {
    replace_pipeline();
    return;
  }
  oldest_ = (oldest_ + 1) % slot_count_;
  --running_;
  if (running_ != 0) oldest().resume();
}

Status Instance::make_pipeline() {
  try {
    pipeline_ = std::make_unique<Pipeline>(context_, where_, slot_count_, events_, stats_);
    capture_graphs();
  } catch (const Error& error) {
    pipeline_.reset();
    return {error.code(), where_ + ": it could not be replaced: " + error.what()};
  } catch (const std::exception& error) {
    pipeline_.reset();
    return {ErrorCode::kOverloaded, where_ + ": it could not be replaced: " + error.what()};
  }
  oldest_ = 0;
  return {};
}

void Instance::replace_pipeline() {
  // What was given to the streams behind the lost run was not answered. It runs anew.
  struct Behind {
    Batch batch;
    FairShare::Turn turn;
  };
  std::vector<Behind> behind;
  for (std::size_t i = 1; i < running_; ++i) {
    const std::size_t slot = (oldest_ + i) % slot_count_;
    Behind& one = behind.emplace_back();
    pipeline_->slots[slot]->give_back(&one.batch);
    one.turn = std::move(turns_[slot]);
  }
  for (const auto& slot : pipeline_->slots) slot->leave();
  lost_pipelines_.push_back(std::move(pipeline_));
  running_ = 0;
  const Status status = make_pipeline();
  if (status.ok()) stats_.count_replaced();
  for (auto& [batch, turn] : behind) {
    batch.formed_at = context_.clock.now();
    if (status.ok()) {
      start_in_free_slot(batch, std::move(turn));
    } else {
      BatchSlot::refuse(context_, batch, status);
    }
  }
}

}  // namespace pyruntime
