#include "schedule/request.h"

#include <climits>

#include "base/futex.h"
#include "schedule/admission.h"
#include "schedule/request_pool.h"
#include "schedule/scheduler_stats.h"

namespace pyruntime {

bool Request::claim() {
  uint32_t expected = kQueued;
  return state_.compare_exchange_strong(expected, kRunning, std::memory_order_acq_rel,
                                        std::memory_order_relaxed);
}

bool Request::abandon(ErrorCode code, const char* message) {
  // Whoever abandons must hold a reference of its own: answer() drops the
  // scheduler's, and the queue's entry keeps another.
  if (!claim()) return false;
  const TimePoint now = stats_->clock().now();
  Admission* const admission = admission_;
  answer_unserved(Status(code, message), now, 1);
  admission->leave(1);
  return true;
}

bool Request::cancel() {
  if (abandon(ErrorCode::kCancelled, "cancelled by the caller before it ran")) return true;
  uint32_t running = kRunning;
  // seq_cst: marking it and then looking at the runs, against beginning a run
  // and then looking at the marks, is Dekker's pattern; see ActiveRun.
  if (state_.compare_exchange_strong(running, kUnwanted, std::memory_order_seq_cst)) {
    stats_->active_runs().end_unwanted();
  }
  return false;
}

namespace {
thread_local bool is_completing = false;
thread_local RequestPool::Spare* spare_here = nullptr;  // the innermost
}  // namespace

bool Request::is_completing_here() { return is_completing; }

Request::Completing::Completing() : was_completing_(std::exchange(is_completing, true)) {}

Request::Completing::~Completing() { is_completing = was_completing_; }

void Request::answer_unserved(Status result, TimePoint now, uint32_t references) {
  status = std::move(result);
  stats_->count_unserved(status.code(), timing.queue_ns, (now - submitted_at_).count());
  const Completing completing;
  answer(references);
}

void Request::answer(uint32_t references) {
  forget_inputs();
  if (on_complete != nullptr) on_complete(context, *this);
  if (references_.load(std::memory_order_acquire) == references) {  // pairs with drop()
    state_.store(kDone, std::memory_order_relaxed);
    give_back();
    return;  // nobody is left who could wait for it
  }
  // seq_cst on state_ and sleepers_ (see wait()): storing one and then loading
  // the other, on both sides, is Dekker's pattern.
  state_.store(kDone, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) != 0) futex_wake(state_, INT_MAX);
  drop(references);
}

void Request::give_back() noexcept { pool_->give(*this); }

bool Request::wait(Nanoseconds timeout) {
  const bool has_limit = timeout.count() >= 0 && timeout < std::chrono::hours(24 * 365);
  const auto give_up_at = std::chrono::steady_clock::now() + (has_limit ? timeout : Nanoseconds(0));
  for (;;) {
    const uint32_t seen = state_.load(std::memory_order_acquire);
    if (seen == kDone) return true;
    Nanoseconds left(-1);
    if (has_limit) {
      left = give_up_at - std::chrono::steady_clock::now();
      if (left.count() <= 0) return false;
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (state_.load(std::memory_order_seq_cst) == seen) futex_wait(state_, seen, left);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
}

RequestPool::RequestPool(std::size_t input_count, std::size_t output_count)
    : slab_([=] { return std::make_unique<Request>(input_count, output_count); }) {}

RequestPool::Spare::Spare(RequestPool& pool)
    : pool_(pool), outer_(std::exchange(spare_here, this)) {}

RequestPool::Spare::~Spare() {
  spare_here = outer_;
  if (request_ != nullptr) pool_.slab_.give(request_->pool_index_);
}

RequestRef RequestPool::take() {
  Request* request = nullptr;
  Spare* const spare = spare_here;
  if (spare != nullptr && spare->request_ != nullptr && &spare->pool_ == this) {
    request = std::exchange(spare->request_, nullptr);
  } else {
    const auto lent = slab_.take();
    request = lent.object;
    request->pool_ = this;
    request->pool_index_ = lent.index;
  }
  request->references_.store(1, std::memory_order_relaxed);
  request->wanted = kAllOutputs;
  request->is_choosy_ = false;
  request->has_device_outputs_ = false;
  request->priority = Priority::kNormal;
  request->deadline = kNever;
  request->on_complete = nullptr;
  request->context = nullptr;
  request->state_.store(Request::kBuilding, std::memory_order_relaxed);
  return RequestRef::adopt(request);
}

void RequestPool::give(Request& request) noexcept {
  if (request.state_.load(std::memory_order_relaxed) != Request::kDone) request.forget_inputs();
  if (request.has_device_outputs_) request.targets_.clear();
  for (Tensor& output : request.outputs) {
    output.data = nullptr;
    // Small memory of the host that nobody else has is kept for the next result.
    if (request.has_device_outputs_ || output.buffer.size_bytes() > kKeptBytes ||
        !output.buffer.is_sole()) {
      output.buffer.reset();
    }
  }
  if (!request.status.ok()) request.status = Status();
  request.timing = {};
  Spare* const spare = spare_here;
  if (spare != nullptr && spare->request_ == nullptr && &spare->pool_ == this) {
    spare->request_ = &request;
  } else {
    slab_.give(request.pool_index_);
  }
}

}  // namespace pyruntime
