#include "schedule/scheduler.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <system_error>
#include <utility>

#include <pthread.h>

namespace pyruntime {

Scheduler::Scheduler(const BatchingOptions& options, RunPlan& plan,
                     std::vector<std::unique_ptr<Instance>> instances, SchedulerStats& stats,
                     const Clock& clock)
    : clock_(clock),
      cores_(CoreBudget::instance()),
      waits_for_company_(options.max_delay.count() > 0 && options.may_batch() &&
                         plan.signature().is_batchable),
      residents_alone_(waits_for_company_ ||
                       std::any_of(instances.begin(), instances.end(),
                                   [](const auto& one) { return one->keeps_to_thread(); })),
      notifies_owners_(std::any_of(instances.begin(), instances.end(),
                                   [](const auto& one) { return one->has_several_slots(); })),
      slot_count_(std::accumulate(instances.begin(), instances.end(), int64_t{0},
                                  [](int64_t sum, const auto& one) { return sum + one->depth(); })),
      lets_join_(instances.size() == 1 && !waits_for_company_),
      stats_(stats),
      admission_(options),
      batcher_(options, plan.signature(), plan.padding(), admission_, clock),
      instances_(std::move(instances)) {
  try {
    for (const auto& instance : instances_) {
      residents_.emplace_back([this, &instance = *instance] {
        pthread_setname_np(pthread_self(), "pyrt-instance");
        reside(instance);
      });
    }
  } catch (const std::system_error& error) {
    close();
    throw Error(ErrorCode::kOverloaded,
                std::string("no thread could be started for an instance: ") + error.what());
  }
  try {
    for (const auto& instance : instances_) {
      if (!instance->keeps_to_thread()) continue;
      instance->have_resident_do([&one = *instance] { one.capture_graphs(); });
    }
  } catch (...) {
    close();
    throw;
  }
}

Scheduler::~Scheduler() { close(); }

void Scheduler::stop_accepting() {
  admission_.stop_accepting();
  // A batch that waits for company need not any more.
  for (const auto& instance : instances_) instance->events().notify_all();
}

SchedulerStatsSnapshot Scheduler::stats() const {
  SchedulerStatsSnapshot snapshot = stats_.read();
  // After how they ended, and what is not to be counted before what is.
  const int64_t uncounted = warmed_up_.load(std::memory_order_acquire);  // pairs with warm_up()
  snapshot.accepted = static_cast<uint64_t>(admission_.accepted() - uncounted);
  return snapshot;
}

void Scheduler::close() {
  stop_accepting();
  // Polled, not signalled: the last touch of the last request's thread must be
  // its count, since this object may die right after.
  while (admission_.outstanding() != 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  if (stopping_.exchange(true, std::memory_order_acq_rel)) return;
  for (const auto& instance : instances_) instance->events().notify_all();
  for (std::thread& resident : residents_) resident.join();
  for (const auto& instance : instances_) {
    // A blocking caller whose request is done may still be on its way out.
    while (!instance->try_own()) std::this_thread::yield();
    form(*instance);  // drops the entries of what was cancelled; nothing else is left
  }
}

// --- callers

Status Scheduler::enter(Request& request, int64_t rows, Answering* here) {
  if (request.state_.load(std::memory_order_relaxed) != Request::kBuilding) {
    return {ErrorCode::kInvalidInput, "the request was submitted before; take a new one"};
  }
  batcher_.prepare(request, rows);
  const bool has_deadline = request.deadline != kNever;
  const TimePoint now = here == nullptr || has_deadline ? clock_.now() : here->now(clock_);
  Status status;
  if (has_deadline) status = check_deadline(request, now);
  if (status.ok()) status = admission_.enter(rows, request.bytes_);
  if (!status.ok()) {
    if (status.code() != ErrorCode::kUnavailable) stats_.count_rejected();
    return status;
  }
  request.stats_ = &stats_;
  request.admission_ = &admission_;
  request.submitted_at_ = now;
  return status;
}

Status Scheduler::check_deadline(const Request& request, TimePoint now) const {
  // Where nothing runs or waits, a request always may: it shows what a run costs
  // now. One that comes too late for this version is told that first.
  if (admission_.outstanding() == 0 || !is_accepting()) return {};
  const TimePoint end = batcher_.expected_end(request, now, slot_count_);
  if (end <= request.deadline) return {};
  const auto in_us = [&](TimePoint at) {
    return std::to_string(std::max<int64_t>((at - now).count(), 0) / 1000) + " us";
  };
  return {ErrorCode::kDeadlineExceeded, "the deadline cannot be met: an answer is expected in " +
                                            in_us(end) + ", the deadline is in " +
                                            in_us(request.deadline)};
}

void Scheduler::queue(Request& request, uint32_t given, const Answering* here) {
  if (here != nullptr && here->lets_join(batcher_, request)) {
    batcher_.submit_to(here->next_batch(), request, given);
    return;
  }
  batcher_.submit(request, given);
  notify_residents();
}

Status Scheduler::submit(const RequestRef& request, int64_t rows) {
  Answering* const here = Answering::of(*this);
  Status status = enter(*request, rows, here);
  if (status.ok()) queue(*request, 0, here);
  return status;
}

Status Scheduler::submit(RequestRef&& request, int64_t rows) {
  Answering* const here = Answering::of(*this);
  Status status = enter(*request, rows, here);
  if (status.ok()) queue(*request.detach(), 1, here);
  return status;
}

Status Scheduler::infer(const RequestRef& request, int64_t rows) {
  Status status = enter(*request, rows, nullptr);
  if (!status.ok()) return status;
  batcher_.submit(*request, 0);
  Instance* const instance = residents_alone_ ? nullptr : try_own();
  if (instance != nullptr) {
    run_inline(*instance, *request);
  } else if (residents_alone_ || notifies_owners_) {
    notify_residents();
  }
  if (!request->is_done()) await(*request);
  return request->status;
}

Status Scheduler::infer_aside(Instance& instance, const RequestRef& request, int64_t rows) {
  Status status = enter(*request, rows, nullptr);
  if (!status.ok()) return status;
  batcher_.submit_to(instance.batch(), *request, 0);
  if (batcher_.seal(instance.batch(), clock_.now())) {
    FairShare::Member& share = instance.share();
    instance.start(share.preempts() ? FairShare::Turn()
                                    : share.begin([this] { return batcher_.expected_run(); }));
    while (instance.has_running()) instance.finish_oldest(batcher_);
  }
  return request->status;
}

void Scheduler::await(Request& request) {
  if (!residents_alone_) {
    seekers_.fetch_add(1, std::memory_order_acq_rel);
    Instance* instance = nullptr;
    spin_until(cores_,
               [&] { return request.is_done() || (instance = try_own_if_free()) != nullptr; });
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
  if (waits_for_company_) {
    // A read-modify-write, as the leader's own: it sees the request, or is seen.
    if (Instance* const leader = leader_.fetch_add(0, std::memory_order_acq_rel)) {
      leader->events().notify_one();
      return;
    }
  }
  for (const auto& instance : instances_) {
    // An owner looks at the queue when it gives the instance up. One that
    // waits for a device wants to know now.
    const bool is_owned = instance->is_owned();
    if (is_owned && !instance->has_several_slots()) continue;
    instance->events().notify_one();
    if (!is_owned) return;
  }
}

Status Scheduler::warm_up(const std::function<RequestRef()>& make, int64_t rows) {
  Status first_failure;
  for (const auto& instance : instances_) {
    const RequestRef request = make();
    if (Status status = enter(*request, rows, nullptr); !status.ok()) return status;
    warmed_up_.fetch_add(1, std::memory_order_release);  // pairs with stats()
    if (instance->keeps_to_thread()) {
      instance->have_resident_do([&] { warm_up(*instance, *request); });
    } else {
      while (!instance->try_own()) std::this_thread::sleep_for(std::chrono::microseconds(50));
      warm_up(*instance, *request);
      give_up(*instance);
    }
    if (first_failure.ok()) first_failure = request->status;
  }
  return first_failure;
}

void Scheduler::warm_up(Instance& instance, Request& request) {
  if (!instance.batch().is_empty()) run_what_joined(instance);
  request.submitted_at_ = clock_.now();  // the queue's limits are not for it
  batcher_.submit_to(instance.batch(), request, 0);
  if (batcher_.seal(instance.batch(), clock_.now())) instance.run_uncounted(batcher_);
}

// --- owners

FairShare::Turn Scheduler::try_take_turn(Instance& instance) {
  return instance.share().try_begin([this] { return batcher_.expected_run(); });
}

FairShare::Turn Scheduler::take_turn(Instance& instance) {
  FairShare::Turn turn = try_take_turn(instance);
  if (turn) return turn;
  cores_.end_run();  // it sleeps
  turn = instance.share().begin([this] { return batcher_.expected_run(); });
  cores_.begin_run();
  return turn;
}

bool Scheduler::form(Instance& instance, int64_t share) {
  Batch& batch = instance.batch();
  bool has_joined = !batch.is_empty();
  while (batcher_.collect(batch, instance.carry()) || has_joined) {
    has_joined = false;
    let_answered_return(instance, share);
    const std::size_t taken = batch.members.size();
    batcher_.seal(batch, clock_.now());
    if (batch.members.size() == taken) break;
    // Others take the places of those who were cancelled or late.
  }
  return !batch.is_empty();
}

void Scheduler::let_answered_return(Instance& instance, int64_t share) {
  const Batch& batch = instance.batch();
  const auto wants_more = [&] {
    return static_cast<int64_t>(batch.members.size()) < share && instance.carry() == nullptr &&
           !batcher_.is_full(batch);
  };
  for (int looks = 0; looks < kLooks && wants_more();) {
    if (batcher_.collect(instance.batch(), instance.carry())) {
      looks = 0;
    } else {
      cpu_relax();
      ++looks;
    }
  }
}

bool Scheduler::form_with_company(Instance& instance) {
  // One leads: several that wait would split the company between them.
  // acq_rel: pairs with notify_residents() and with the other leaders'
  Instance* nobody = nullptr;
  if (!leader_.compare_exchange_strong(nobody, &instance, std::memory_order_acq_rel)) {
    return false;  // the leader passes on what it leaves
  }
  bool is_formed = false;
  while (!is_formed && batcher_.collect(instance.batch(), instance.carry())) {
    wait_for_company(instance);
    is_formed = batcher_.seal(instance.batch(), clock_.now());
  }
  leader_.exchange(nullptr, std::memory_order_acq_rel);
  return is_formed;
}

void Scheduler::wait_for_company(Instance& instance) {
  Batch& batch = instance.batch();
  Request*& carry = instance.carry();
  while (!batcher_.is_due(batch, carry, clock_.now())) {
    const EventCount::Ticket ticket = instance.events().prepare_wait();
    if (batcher_.collect(batch, carry) || batcher_.is_due(batch, carry, clock_.now())) {
      instance.events().cancel_wait();
      continue;
    }
    const Nanoseconds left = batcher_.due_at(batch) - clock_.now();
    cores_.end_run();
    instance.events().wait(ticket, std::max(Nanoseconds(0), left));
    cores_.begin_run();
    batcher_.collect(batch, carry);
  }
}

bool Scheduler::is_led() {
  // A read-modify-write: the leader sees who has seen it, and passes on.
  return waits_for_company_ && leader_.fetch_add(0, std::memory_order_acq_rel) != nullptr;
}

void Scheduler::pass_on(const Instance& mine) {
  if (instances_.size() == 1 || batcher_.is_empty()) return;
  for (const auto& other : instances_) {
    if (other.get() != &mine && !other->is_owned()) {
      other->events().notify_one();
      return;
    }
  }
}

void Scheduler::finish_oldest(Instance& instance) {
  const Answering here(*this, instance, lets_join_);
  instance.finish_oldest(batcher_);
}

bool Scheduler::finish_if_ready(Instance& instance) {
  const Answering here(*this, instance, lets_join_);
  return instance.finish_if_ready(batcher_);
}

void Scheduler::run_what_joined(Instance& instance) {
  FairShare::Turn turn = take_turn(instance);
  if (batcher_.seal(instance.batch(), clock_.now())) instance.start(std::move(turn));
  while (instance.has_running()) finish_oldest(instance);
}

void Scheduler::run_inline(Instance& instance, const Request& mine) {
  cores_.begin_run();
  for (int i = 0; i < kInlineBatches; ++i) {
    // Where other models come first, the resident waits, not this caller.
    FairShare::Turn turn = try_take_turn(instance);
    if (!turn || !form(instance)) break;
    pass_on(instance);
    instance.start(std::move(turn));
    while (instance.has_running()) finish_oldest(instance);
    if (mine.is_done() && !instance.has_carry() && batcher_.is_empty()) break;
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

bool Scheduler::advance(Instance& instance, int64_t share) {
  if (waits_for_company_ && !instance.has_running()) {
    // No turn while it waits for company.
    if (!form_with_company(instance)) return false;
    pass_on(instance);
    instance.start(take_turn(instance));
    return true;
  }
  FairShare::Turn turn = try_take_turn(instance);
  if (!turn) {
    if (!instance.has_carry() && batcher_.is_empty()) return false;
    if (instance.has_running()) {  // other turns may wait for their end
      finish_oldest(instance);
      return true;
    }
    turn = take_turn(instance);
  }
  if (!form(instance, share)) return false;
  pass_on(instance);
  instance.start(std::move(turn));
  return true;
}

bool Scheduler::serve(Instance& instance, int64_t* share) {
  bool has_served = false;
  for (;;) {
    // Who has a job waits for the end of what runs.
    while (instance.has_free_slot() && !instance.has_job() && advance(instance, *share)) {
      // Now, while those whom this batch answers are still counted.
      *share = admission_.outstanding() / slot_count_;
      finish_if_ready(instance);
      has_served = true;
    }
    if (!instance.has_running()) return has_served;
    if (!finish_if_ready(instance)) wait_for_run_or_request(instance);
  }
}

void Scheduler::wait_for_run_or_request(Instance& instance) {
  if (!instance.has_free_slot()) {
    finish_oldest(instance);
    return;
  }
  const auto is_worth_a_look = [&] {
    return instance.is_ready() || instance.has_carry() || !batcher_.is_empty();
  };
  cores_.end_run();  // the device works, not this thread
  if (!spin_until(cores_, is_worth_a_look)) {
    instance.request_notice();
    const EventCount::Ticket ticket = instance.events().prepare_wait();
    if (is_worth_a_look()) {
      instance.events().cancel_wait();
    } else {
      instance.events().wait(ticket, instance.time_left());
    }
  }
  cores_.begin_run();
}

void Scheduler::reside(Instance& instance) {
  int64_t share = 0;
  while (!stopping_.load(std::memory_order_acquire)) {
    if (instance.try_own()) {
      cores_.begin_run();
      if (instance.has_job()) instance.do_job();
      const bool has_served = serve(instance, &share);
      cores_.end_run();
      instance.disown();
      // More often follows soon after some than after none.
      if (has_served && spin_until(cores_, [&] {
            return instance.looks_left_with_carry() ||
                   (instance.looks_free() && !batcher_.is_empty() &&
                    leader_.load(std::memory_order_relaxed) == nullptr) ||
                   stopping_.load(std::memory_order_relaxed);
          })) {
        continue;
      }
    }
    const EventCount::Ticket ticket = instance.events().prepare_wait();
    // Owned by a caller: that one wakes us if it leaves anything.
    if (stopping_.load(std::memory_order_acquire) || instance.is_left_with_carry() ||
        instance.has_job() || (!instance.is_owned() && !batcher_.is_empty() && !is_led())) {
      instance.events().cancel_wait();
      continue;
    }
    instance.events().wait(ticket);
    share = 0;
  }
}

}  // namespace pyruntime
