#include "serving/recent_assignments.h"

#include "base/hash.h"

namespace pyruntime {
namespace {

constexpr uint64_t kArmMask = 0xFF;

}  // namespace

RecentAssignments::Place RecentAssignments::place_of_id(std::string_view request_id) {
  const uint64_t hash = hash64(request_id);
  return {sets_[hash % kSets], hash & ~kArmMask};
}

void RecentAssignments::note(std::string_view request_id, std::size_t arm) {
  const auto [set, tag] = place_of_id(request_id);
  const uint64_t entry = tag | (arm + 1);
  for (auto& way : set.entries) {
    const uint64_t there = way.load(std::memory_order_relaxed);
    if (there != 0 && (there & ~kArmMask) == tag) {
      way.store(entry, std::memory_order_relaxed);
      return;
    }
  }
  const uint64_t way = set.turn.fetch_add(1, std::memory_order_relaxed) % kWays;
  set.entries[way].store(entry, std::memory_order_relaxed);
}

std::optional<std::size_t> RecentAssignments::take(std::string_view request_id) {
  const auto [set, tag] = place_of_id(request_id);
  for (auto& way : set.entries) {
    uint64_t there = way.load(std::memory_order_relaxed);
    if (there == 0 || (there & ~kArmMask) != tag) continue;
    // Of those who take it at once, one has it.
    if (way.compare_exchange_strong(there, 0, std::memory_order_relaxed)) {
      return (there & kArmMask) - 1;
    }
  }
  return std::nullopt;
}

}  // namespace pyruntime
