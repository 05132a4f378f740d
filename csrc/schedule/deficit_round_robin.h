// Whose turn it is, so that all who wait get equal time whatever one turn costs them.
//
// Deficit round-robin (Shreedhar and Varghese, 1995), in predicted time: each round gives every
// waiting member a quantum, and a turn is had by who has saved what it costs. A turn that cost
// more or less than predicted is settled afterwards.
//
// Threads: one at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pyruntime {

class DeficitRoundRobin {
 public:
  struct Member {
    int64_t saved_ns = 0;  // below zero: turns have cost more than was saved
    int64_t cost_ns = 0;   // of the turn that it waits for, as predicted
    int waiting = 0;       // turns that it waits for
  };

  explicit DeficitRoundRobin(int64_t quantum_ns) : quantum_ns_(quantum_ns) {}

  void add(Member& member) { ring_.push_back(&member); }
  void remove(Member& member) {
    std::erase(ring_, &member);
    next_ = 0;
  }

  // Who waits and has the next turn, which is taken from what it waits for and has saved; nullptr
  // if none waits.
  Member* choose();

  // A turn has cost so much more than predicted.
  void charge(Member& member, int64_t more_ns) const {
    // Beyond that the past is forgotten: predictions may have been wrong by far.
    constexpr int64_t kMostRounds = 64;
    member.saved_ns = std::clamp(member.saved_ns - more_ns, -kMostRounds * quantum_ns_,
                                 kMostRounds * quantum_ns_);
  }
  // Neither waits nor runs: saves nothing for later.
  static void leave(Member& member) { member.saved_ns = std::min<int64_t>(member.saved_ns, 0); }

 private:
  const int64_t quantum_ns_;
  std::vector<Member*> ring_;
  std::size_t next_ = 0;  // whom the round has not come to yet
};

inline DeficitRoundRobin::Member* DeficitRoundRobin::choose() {
  // All rounds in which nobody has saved enough, at once.
  const auto rounds_for = [this](const Member& member) {
    const int64_t missing = member.cost_ns - member.saved_ns;
    return missing <= 0 ? 0 : (missing + quantum_ns_ - 1) / quantum_ns_;
  };
  Member* chosen = nullptr;
  std::size_t place = 0;
  int64_t fewest = 0;
  for (std::size_t i = 0; i < ring_.size(); ++i) {
    const std::size_t at = (next_ + i) % ring_.size();
    Member& member = *ring_[at];
    if (member.waiting == 0) continue;
    const int64_t rounds = rounds_for(member);
    if (chosen != nullptr && rounds >= fewest) continue;
    chosen = &member;
    place = at;
    fewest = rounds;
  }
  if (chosen == nullptr) return nullptr;
  for (Member* member : ring_) {
    if (member->waiting != 0) member->saved_ns += fewest * quantum_ns_;
  }
  chosen->saved_ns -= chosen->cost_ns;
  --chosen->waiting;
  next_ = place + 1;
  return chosen;
}

}  // namespace pyruntime
