#include "schedule/lane.h"

#include <algorithm>

namespace pyruntime {
namespace {

bool is_later(const Lane::Entry& a, const Lane::Entry& b) { return a.due > b.due; }

}  // namespace

Lane::~Lane() {
  for (auto& ring : rings_) delete ring.load(std::memory_order_relaxed);
}

void Lane::make_ring(Kind kind) {
  const std::lock_guard lock(mutex_);
  if (ring(kind) != nullptr) return;
  if (kind == kDated) by_due_.reserve(capacity_);
  rings_[kind].store(new Ring(capacity_), std::memory_order_release);  // pairs with ring()
}

bool Lane::pop_sorted(Entry* entry) {
  const std::lock_guard lock(mutex_);
  const auto count = [&] {
    return static_cast<int64_t>(by_due_.size()) + (has_next_undated_ ? 1 : 0);
  };
  // Nobody must take this for empty while entries are between ring and heap.
  sorted_.store(count() + 1, std::memory_order_seq_cst);
  Ring& dated = *ring(kDated);
  for (Entry next; dated.try_pop(next);) {
    by_due_.push_back(next);
    std::ranges::push_heap(by_due_, is_later);
  }
  Ring* const undated = ring(kUndated);
  if (!has_next_undated_ && undated != nullptr) has_next_undated_ = undated->try_pop(next_undated_);
  const bool is_undated =
      has_next_undated_ && (by_due_.empty() || next_undated_.due < by_due_.front().due);
  const bool has_any = is_undated || !by_due_.empty();
  if (is_undated) {
    *entry = next_undated_;
    has_next_undated_ = false;
  } else if (has_any) {
    std::ranges::pop_heap(by_due_, is_later);
    *entry = by_due_.back();
    by_due_.pop_back();
  }
  sorted_.store(count(), std::memory_order_release);
  return has_any;
}

bool Lane::is_empty() const {
  const Ring* const undated = ring(kUndated);
  if (undated != nullptr && !undated->is_empty()) return false;
  const Ring* const dated = ring(kDated);
  if (dated == nullptr) return true;
  // The ring first: what leaves it is counted as sorted before.
  return dated->is_empty() && sorted_.load(std::memory_order_seq_cst) == 0;
}

int64_t Lane::dated_size() const {
  const Ring* const dated = ring(kDated);
  if (dated == nullptr) return 0;
  return dated->size() + sorted_.load(std::memory_order_relaxed);
}

int64_t Lane::size() const {
  const Ring* const undated = ring(kUndated);
  return dated_size() + (undated == nullptr ? 0 : undated->size());
}

}  // namespace pyruntime
