#include "schedule/fair_share.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "base/fork.h"
#include "schedule/core_budget.h"

namespace pyruntime {
namespace {

constexpr auto kSeqCst = std::memory_order_seq_cst;

// Of one process: a child of fork() has its own.
struct OfProcess {
  const uint64_t fork_generation = pyruntime::fork_generation();
  std::mutex mutex;  // guards `shares`
  std::map<std::string, std::unique_ptr<FairShare>> shares;
};

OfProcess& of_process() {
  // Without a lock, which a fork() might have caught while it was held.
  static std::atomic<OfProcess*> current{nullptr};
  OfProcess* seen = current.load(std::memory_order_acquire);
  if (seen != nullptr && seen->fork_generation == fork_generation()) return *seen;
  auto made = std::make_unique<OfProcess>();
  if (current.compare_exchange_strong(seen, made.get(), std::memory_order_acq_rel)) {
    return *made.release();
  }
  return *seen;
}

}  // namespace

FairShare& FairShare::of(const DeviceBackend& backend) {
  OfProcess& process = of_process();
  const std::lock_guard lock(process.mutex);
  const bool is_host = backend.is_host_accessible();
  auto& share = process.shares[is_host ? "host" : backend.device().name()];
  if (share == nullptr) {
    Options options;
    // A device computes one batch while the next one is brought to it.
    if (is_host) options.places = CoreBudget::instance().cores();
    options.preempts = is_host;
    share = std::make_unique<FairShare>(options);
  }
  return *share;
}

void FairShare::sweep(TimePoint now) {
  swept_at_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  for (Member* const member : members_) {
    const int64_t seen = member->last_seen_.load(std::memory_order_relaxed);
    if (!member->is_active_.load(kSeqCst) || member->state_.waiting != 0 ||
        now - TimePoint(Nanoseconds(seen)) < options_.active_for) {
      continue;
    }
    // seq_cst: against enter(), which counts itself and then looks at is_active_: Dekker.
    member->is_active_.store(false, kSeqCst);
    if (member->running_.load(kSeqCst) != 0) {
      member->is_active_.store(true, kSeqCst);
    } else {
      active_.fetch_sub(1, kSeqCst);
      DeficitRoundRobin::leave(member->state_);
    }
  }
}

int FairShare::places_left(const Clock& clock) {
  if (lost_.load(kSeqCst) != 0 && clock.now() >= lost_until_) lost_.store(0, kSeqCst);
  int left = options_.places + lost_.load(kSeqCst);
  for (const Member* member : members_) {
    left -= member->running_.load(kSeqCst) * member->places_;
  }
  return left;
}

Nanoseconds FairShare::longest_wait() const {
  int64_t longest = 0;
  for (const Member* member : members_) longest = std::max(longest, member->state_.cost_ns);
  return std::max(options_.longest_wait, Nanoseconds(options_.longest_wait_turns * longest));
}

void FairShare::lose_place(const Clock& clock) {
  if (options_.preempts) return;  // no run keeps others from theirs
  constexpr int kLostFor = 10;
  lost_until_ = clock.now() + kLostFor * options_.longest_wait;
  lost_.fetch_add(1, kSeqCst);
}

void FairShare::give_turns(const Clock& clock) {
  while (waiting_.load(kSeqCst) != 0 && places_left(clock) > 0) {
    auto* const chosen = static_cast<Member::State*>(robin_.choose());
    if (chosen == nullptr) return;
    Member& member = chosen->owner;
    member.running_.fetch_add(1, kSeqCst);
    waiting_.fetch_sub(1, kSeqCst);
    ++member.granted_;
    member.turn_given_.notify_one();
  }
}

FairShare::Member::Member(FairShare& share, int places, const Clock& clock)
    : share_(share), places_(std::max(places, 1)), clock_(clock), state_(*this) {
  const std::lock_guard lock(share_.mutex_);
  share_.members_.push_back(this);
  share_.robin_.add(state_);
}

FairShare::Member::~Member() {
  const std::lock_guard lock(share_.mutex_);
  std::erase(share_.members_, this);
  if (is_active_.load(kSeqCst)) share_.active_.fetch_sub(1, kSeqCst);
  share_.robin_.remove(state_);
}

void FairShare::Member::be_active() {
  const std::lock_guard lock(share_.mutex_);
  if (is_active_.load(kSeqCst)) return;
  be_seen();
  is_active_.store(true, kSeqCst);
  share_.active_.fetch_add(1, kSeqCst);
}

void FairShare::Member::be_seen() {
  last_seen_.store(clock_.now().time_since_epoch().count(), std::memory_order_relaxed);
}

// None where it must compete, counted as running all the same.
FairShare::Turn FairShare::Member::enter() {
  Turn turn;
  // seq_cst, here and in end(): counting in and then looking at who else is there, against the
  // others' doing the same, is Dekker's pattern. Of two at least one sees the other.
  const int before = running_.fetch_add(1, kSeqCst);
  if (!is_active_.load(kSeqCst)) be_active();
  const bool preempts = share_.options_.preempts;
  bool is_free = share_.active_.load(kSeqCst) == 1;
  if (!is_free) {
    const TimePoint now = clock_.now();
    last_seen_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
    const TimePoint swept_at(Nanoseconds(share_.swept_at_.load(std::memory_order_relaxed)));
    if (now - swept_at >= share_.options_.active_for / 4) {
      const std::lock_guard lock(share_.mutex_);
      share_.sweep(now);
    }
    is_free = preempts && before == 0;
  }
  if (!is_free) return turn;
  turn.member_ = this;
  if (!preempts) turn.begun_ = clock_.now();
  return turn;
}

FairShare::Turn FairShare::Member::compete(Nanoseconds predicted, bool may_wait) {
  Turn turn;
  std::unique_lock lock(share_.mutex_);
  state_.cost_ns = predicted.count();
  if (share_.waiting_.load(kSeqCst) == 0 && share_.places_left(clock_) >= 0) {
    share_.robin_.charge(state_, predicted.count());
  } else if (may_wait) {
    wait_for_turn(lock, predicted);
  } else {
    running_.fetch_sub(1, kSeqCst);
    share_.give_turns(clock_);  // somebody may have taken this one for running
    return turn;
  }
  turn.member_ = this;
  turn.is_charged_ = true;
  turn.predicted_ = predicted;
  turn.begun_ = clock_.now();
  return turn;
}

void FairShare::Member::wait_for_turn(std::unique_lock<std::mutex>& lock, Nanoseconds predicted) {
  running_.fetch_sub(1, kSeqCst);
  ++state_.waiting;
  share_.waiting_.fetch_add(1, kSeqCst);  // then give_turns() looks, against end()
  share_.give_turns(clock_);
  if (turn_given_.wait_for(lock, share_.longest_wait(), [this] { return granted_ != 0; })) {
    --granted_;
    return;
  }
  share_.lose_place(clock_);
  --state_.waiting;
  share_.waiting_.fetch_sub(1, kSeqCst);
  running_.fetch_add(1, kSeqCst);
  share_.robin_.charge(state_, predicted.count());
}

void FairShare::Member::end(const Turn& turn) {
  if (!turn.is_charged_ && share_.lost_.load(kSeqCst) == 0) {
    running_.fetch_sub(1, kSeqCst);
    if (share_.waiting_.load(kSeqCst) == 0) return;
    const std::lock_guard lock(share_.mutex_);
    share_.give_turns(clock_);
    return;
  }
  const std::lock_guard lock(share_.mutex_);
  be_seen();
  if (turn.begun_ != TimePoint{}) {
    const Nanoseconds taken = clock_.now() - turn.begun_;
    if (turn.is_charged_) share_.robin_.charge(state_, (taken - turn.predicted_).count());
    if (taken >= share_.options_.longest_wait && share_.lost_.load(kSeqCst) != 0) {
      share_.lost_.fetch_sub(1, kSeqCst);
    }
  }
  running_.fetch_sub(1, kSeqCst);
  share_.give_turns(clock_);
}

}  // namespace pyruntime
