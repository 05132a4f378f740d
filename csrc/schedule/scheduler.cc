#include "schedule/scheduler.h"

#include <algorithm>
#include <utility>

#include <pthread.h>

namespace pyruntime {

Scheduler::Scheduler(const BatchingOptions& options, const Signature& signature,
                     std::vector<std::unique_ptr<Instance>> instances, SchedulerStats& stats,
                     const Clock& clock)
    : clock_(clock),
      cores_(CoreBudget::instance()),
      waits_for_company_(options.max_delay.count() > 0 && options.max_rows > 1 &&
                         signature.is_batchable),
      stats_(stats),
      admission_(options.queue_capacity),
      batcher_(options, signature, admission_, stats),
      instances_(std::move(instances)) {
  for (const auto& instance : instances_) {
    residents_.emplace_back([this, &instance = *instance] {
      pthread_setname_np(pthread_self(), "pyrt-instance");
      reside(instance);
    });
  }
}

Scheduler::~Scheduler() { close(); }

void Scheduler::close() {
  stop_accepting();
  notify_residents();  // who waits for company need not any more
  // Polled, not signalled: the last touch of the last request's thread must be
  // its count, since this object may die right after.
  while (admission_.outstanding() != 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  if (stopping_.exchange(true, std::memory_order_acq_rel)) return;
  for (const auto& instance : instances_) instance->events().notify_all();
  for (std::thread& resident : residents_) resident.join();
  for (const auto& instance : instances_) form(*instance);  // drops what was cancelled
}

// --- callers

Status Scheduler::enqueue(const RequestRef& request, int64_t rows) {
  Status status = admission_.enter();
  if (!status.ok()) {
    if (status.code() == ErrorCode::kOverloaded) stats_.count_rejected();
    return status;
  }
  request->stats_ = &stats_;
  request->admission_ = &admission_;
  request->submitted_at_ = clock_.now();
  stats_.count_accepted();
  batcher_.submit(*request, rows);
  return status;
}

Status Scheduler::submit(const RequestRef& request, int64_t rows) {
  Status status = enqueue(request, rows);
  if (status.ok()) notify_residents();
  return status;
}

Status Scheduler::infer(const RequestRef& request, int64_t rows) {
  Status status = enqueue(request, rows);
  if (!status.ok()) return status;
  Instance* const instance = waits_for_company_ ? nullptr : try_own();
  if (instance != nullptr) {
    run_inline(*instance, *request);
  } else {
    notify_residents();
  }
  if (!request->is_done()) await(*request);
  return request->status;
}

void Scheduler::await(Request& request) {
  if (!waits_for_company_) {
    seekers_.fetch_add(1, std::memory_order_acq_rel);
    Instance* instance = nullptr;
    spin_until(cores_, [&] {
      return request.is_done() || (instance = try_own_if_free()) != nullptr;
    });
    // acq_rel: pairs with the one in give_up(). Who counted on this thread left
    // requests behind, which this thread now sees and takes care of.
    seekers_.fetch_sub(1, std::memory_order_acq_rel);
    if (instance == nullptr && !request.is_done()) instance = try_own();
    if (instance != nullptr) {
      run_inline(*instance, request);
    } else if (request.is_done() && !batcher_.is_empty()) {
      notify_residents();
    }
  }
  if (request.deadline == kNever) {
    request.wait();
    return;
  }
  if (request.wait(std::max(Nanoseconds(0), request.deadline - clock_.now()))) return;
  if (!request.abandon(ErrorCode::kDeadlineExceeded, "the deadline passed in the queue")) {
    request.wait();  // it runs, on memory that is the caller's
  }
}

Instance* Scheduler::try_own() {
  for (const auto& instance : instances_) {
    if (instance->try_own()) return instance.get();
  }
  return nullptr;
}

Instance* Scheduler::try_own_if_free() {
  for (const auto& instance : instances_) {
    if (instance->looks_free() && instance->try_own()) return instance.get();
  }
  return nullptr;
}

void Scheduler::notify_residents() {
  for (const auto& instance : instances_) {
    // An owner looks at the queue when it gives the instance up. One that
    // waits, for company or for a device, wants to know now.
    const bool is_owned = instance->is_owned();
    if (is_owned && !waits_for_company_ && !instance->has_several_slots()) continue;
    instance->events().notify_one();
    if (!is_owned) return;
  }
}

// --- owners

bool Scheduler::form(Instance& instance) {
  while (batcher_.collect(instance.batch(), instance.carry())) {
    if (batcher_.seal(instance.batch(), clock_.now())) return true;
    instance.batch().clear();
  }
  return false;
}

bool Scheduler::form_in_time(Instance& instance) {
  Batch& batch = instance.batch();
  Request*& carry = instance.carry();
  if (!batcher_.collect(batch, carry)) return false;
  while (!batcher_.is_due(batch, carry, clock_.now())) {
    const EventCount::Ticket ticket = instance.events().prepare_wait();
    if (batcher_.collect(batch, carry)) {
      instance.events().cancel_wait();
      continue;
    }
    const Nanoseconds left = batcher_.due_at(batch) - clock_.now();
    instance.events().wait(ticket, std::max(Nanoseconds(0), left));
    batcher_.collect(batch, carry);
  }
  if (batcher_.seal(batch, clock_.now())) return true;
  batch.clear();
  return form_in_time(instance);
}

void Scheduler::run_inline(Instance& instance, const Request& mine) {
  cores_.begin_run();
  for (int i = 0; i < kInlineBatches && form(instance); ++i) {
    instance.start(batcher_);
    while (instance.has_running()) instance.finish_oldest(batcher_);
    if (mine.is_done() && batcher_.is_empty()) break;
  }
  cores_.end_run();
  give_up(instance);
}

void Scheduler::give_up(Instance& instance) {
  const bool has_carry = instance.has_carry();
  instance.disown();
  if (!has_carry && batcher_.is_empty()) return;
  // A caller that spins for an instance takes this one, without a wake-up.
  // acq_rel, and a read-modify-write: pairs with the one in await().
  if (!has_carry && seekers_.fetch_add(0, std::memory_order_acq_rel) != 0) return;
  instance.events().notify_one();
}

bool Scheduler::serve(Instance& instance) {
  bool has_served = false;
  for (;;) {
    while (instance.has_free_slot() &&
           (waits_for_company_ && !instance.has_running() ? form_in_time(instance)
                                                          : form(instance))) {
      instance.start(batcher_);
      instance.finish_if_ready(batcher_);
      has_served = true;
    }
    if (!instance.has_running()) return has_served;
    if (!instance.finish_if_ready(batcher_)) wait_for_run_or_request(instance);
  }
}

void Scheduler::wait_for_run_or_request(Instance& instance) {
  if (!instance.has_free_slot()) {
    instance.finish_oldest(batcher_);
    return;
  }
  const auto is_worth_a_look = [&] {
    return instance.is_ready() || instance.has_carry() || !batcher_.is_empty();
  };
  if (spin_until(cores_, is_worth_a_look)) return;
  const EventCount::Ticket ticket = instance.events().prepare_wait();
  if (is_worth_a_look()) {
    instance.events().cancel_wait();
  } else {
    instance.events().wait(ticket);
  }
}

void Scheduler::reside(Instance& instance) {
  while (!stopping_.load(std::memory_order_acquire)) {
    if (instance.try_own()) {
      cores_.begin_run();
      const bool has_served = serve(instance);
      cores_.end_run();
      instance.disown();
      // More often follows soon after some than after none.
      if (has_served && spin_until(cores_, [&] {
            return (instance.looks_free() && !batcher_.is_empty()) ||
                   stopping_.load(std::memory_order_relaxed);
          })) {
        continue;
      }
    }
    const EventCount::Ticket ticket = instance.events().prepare_wait();
    // Owned by a caller: that one wakes us if it leaves anything.
    if (stopping_.load(std::memory_order_acquire) ||
        (!instance.is_owned() && !batcher_.is_empty())) {
      instance.events().cancel_wait();
      continue;
    }
    instance.events().wait(ticket);
  }
}

}  // namespace pyruntime
