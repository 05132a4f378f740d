// Shares what computes between the models that want it at the same time.
//
// One for the cores of the host, and one for each device beside it. A model that is alone does as
// it likes. Beside others that are active it runs no more batches at once than there are places;
// who waits for one is chosen by deficit round-robin in predicted time, so that a flood on one
// model leaves the others their share.
//
// The host's cores are shared by the operating system as well, which preempts: there a model with
// nothing running never waits. A device runs what it was given to its end.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "base/cache_line.h"
#include "base/clock.h"
#include "memory/device.h"
#include "schedule/deficit_round_robin.h"

namespace pyruntime {

class FairShare {
 public:
  struct Options {
    int places = 2;         // taken by batches beside those of other models; of the host, cores
    bool preempts = false;  // what runs makes way for others
    Nanoseconds quantum = std::chrono::milliseconds(1);  // saved in one round
    // After its last turn a model is still active: it may be back in a moment, and what was begun
    // meanwhile would be before it.
    Nanoseconds active_for = std::chrono::seconds(1);
    // Nobody waits longer, or than so many of the longest turns: a run that does not come back
    // must not keep other models from theirs. Its place then counts as lost until it does, or for
    // ten times as long.
    Nanoseconds longest_wait = std::chrono::milliseconds(100);
    int longest_wait_turns = 4;
  };

  class Member;
  class Turn;

  // Of this process; never destroyed.
  static FairShare& of(const DeviceBackend& backend);

  explicit FairShare(const Options& options) : options_(options), robin_(options.quantum.count()) {}

 private:
  void sweep(TimePoint now);
  void give_turns(const Clock& clock);
  int places_left(const Clock& clock);
  Nanoseconds longest_wait() const;
  void lose_place(const Clock& clock);

  const Options options_;

  alignas(kCacheLine) std::atomic<int> active_{0};  // members
  std::atomic<int> waiting_{0};                     // turns that are waited for
  std::atomic<int> lost_{0};                        // places of a device's turns that do not end
  std::atomic<int64_t> swept_at_{0};                // ns of the clock

  std::mutex mutex_;  // guards what is below, and what members say it does
  DeficitRoundRobin robin_;
  std::vector<Member*> members_;
  TimePoint lost_until_{};
};

// The right to run one batch; ends with it.
//
// Threads: one at a time.
class FairShare::Turn {
 public:
  Turn() = default;
  Turn(Turn&& other) noexcept { swap(other); }
  Turn& operator=(Turn&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Turn() { end(); }

  explicit operator bool() const { return member_ != nullptr; }
  void end();

 private:
  friend class Member;
  void swap(Turn& other) {
    std::swap(member_, other.member_);
    std::swap(predicted_, other.predicted_);
    std::swap(begun_, other.begun_);
    std::swap(is_charged_, other.is_charged_);
  }

  Member* member_ = nullptr;
  Nanoseconds predicted_{0};
  TimePoint begun_{};        // where it matters how long it takes
  bool is_charged_ = false;  // others want turns
};

// One model version on one device. Outlives its turns.
//
// Threads: all calls from any.
class FairShare::Member {
 public:
  // places: that a batch takes, such as the threads of a run on the host. Both must outlive it.
  Member(FairShare& share, int places, const Clock& clock);
  ~Member();
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  // Whether another model is active, about.
  bool has_company() const { return share_.active_.load(std::memory_order_relaxed) > 1; }

  // Whether what runs makes way for others.
  bool preempts() const { return share_.options_.preempts; }

  // For one batch. None where it would have to wait.
  // predicted: called where others want turns; gives how long the batch will take, ns.
  template <typename Predict>
  Turn try_begin(Predict&& predicted) {
    Turn turn = enter();
    return turn ? std::move(turn) : compete(predicted(), /*may_wait=*/false);
  }
  // Waits. Not for who has to end another turn.
  template <typename Predict>
  Turn begin(Predict&& predicted) {
    Turn turn = enter();
    return turn ? std::move(turn) : compete(predicted(), /*may_wait=*/true);
  }

 private:
  friend class FairShare;
  friend class Turn;

  struct State : DeficitRoundRobin::Member {
    explicit State(FairShare::Member& of) : owner(of) {}
    FairShare::Member& owner;
  };

  Turn enter();
  Turn compete(Nanoseconds predicted, bool may_wait);
  void wait_for_turn(std::unique_lock<std::mutex>& lock, Nanoseconds predicted);
  void be_active();
  void be_seen();
  void end(const Turn& turn);

  FairShare& share_;
  const int places_;
  const Clock& clock_;

  alignas(kCacheLine) std::atomic<int> running_{0};
  std::atomic<bool> is_active_{false};  // has run lately; set and cleared under the mutex
  std::atomic<int64_t> last_seen_{0};   // ns of the clock, kept in company alone

  // Under the share's mutex.
  State state_;
  int granted_ = 0;  // turns that were given and not taken yet
  std::condition_variable turn_given_;
};

inline void FairShare::Turn::end() {
  if (Member* const member = std::exchange(member_, nullptr)) member->end(*this);
}

}  // namespace pyruntime
