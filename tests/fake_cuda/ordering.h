// What is known to come after what, whatever the streams' pace: vector clocks
// (Lamport's, one for each stream) with the host as one more reader of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

namespace fake_cuda {

// Up to which piece of work of each stream all is done before.
class VectorClock {
 public:
  void join(const VectorClock& other) {
    for (const auto& [stream, number] : other.seen_) see(stream, number);
  }
  void see(uint64_t stream, uint64_t number) {
    uint64_t& seen = seen_[stream];
    seen = std::max(seen, number);
  }
  bool covers(uint64_t stream, uint64_t number) const {
    const auto found = seen_.find(stream);
    return found != seen_.end() && found->second >= number;
  }

 private:
  std::map<uint64_t, uint64_t> seen_;
};

struct Access {
  uintptr_t begin;
  uintptr_t end;
  bool writes;
  uint64_t stream;
  uint64_t number;  // of the work in its stream
};

// Accesses that the host does not know to be over.
class AccessLog {
 public:
  // Notes `access`, of work that comes after `before`. Returns whether it comes after all that it
  // must not meet.
  bool note(const Access& access, const VectorClock& before, const VectorClock& host) {
    forget(host);
    const bool is_ordered = std::ranges::all_of(accesses_, [&](const Access& other) {
      return !overlap(access, other) || (!access.writes && !other.writes) ||
             before.covers(other.stream, other.number);
    });
    accesses_.push_back(access);
    return is_ordered;
  }

  // Whether all accesses to that memory come before what comes after `before`.
  bool is_over(uintptr_t begin, uintptr_t end, const VectorClock& before) const {
    const Access all{begin, end, true, 0, 0};
    return std::ranges::all_of(accesses_, [&](const Access& other) {
      return !overlap(all, other) || before.covers(other.stream, other.number);
    });
  }

  void forget(uintptr_t begin, uintptr_t end) {
    std::erase_if(accesses_,
                  [&](const Access& one) { return overlap({begin, end, true, 0, 0}, one); });
  }

 private:
  static bool overlap(const Access& a, const Access& b) {
    return a.begin < b.end && b.begin < a.end;
  }
  void forget(const VectorClock& host) {
    std::erase_if(accesses_,
                  [&](const Access& one) { return host.covers(one.stream, one.number); });
  }

  std::vector<Access> accesses_;
};

}  // namespace fake_cuda
