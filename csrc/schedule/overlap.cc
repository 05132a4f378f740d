#include "schedule/overlap.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace pyruntime {
namespace {

// From here on copies are taken to be worth streams of their own, until it is measured: some ten
// microseconds of copying, where waiting for events takes a few.
constexpr std::size_t kAssumedBytes = std::size_t{256} << 10;

// Under 2 % a gain is the measurement's scatter, and more in flight costs memory and smaller
// batches.
constexpr double kWorth = 0.98;

Overlap fastest(const OverlapTimes& times) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < kOverlaps; ++i) {
    const auto time = static_cast<double>(times[i].count());
    if (time < kWorth * static_cast<double>(times[best].count())) best = i;
  }
  return static_cast<Overlap>(best);
}

}  // namespace

std::size_t OverlapChoice::size_of(std::size_t payload_bytes) {
  return std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(payload_bytes)), kSizes - 1);
}

OverlapChoice::OverlapChoice(std::optional<Overlap> forced) : is_forced_(forced.has_value()) {
  for (auto& row : chosen_) {
    for (std::size_t size = 0; size < kSizes; ++size) {
      const Overlap assumed = size >= size_of(kAssumedBytes) ? Overlap::kTwo : Overlap::kNone;
      row[size].store(forced.value_or(assumed), std::memory_order_relaxed);
    }
  }
}

bool OverlapChoice::is_unknown(std::size_t bucket, std::size_t payload_bytes) const {
  if (is_forced_) return false;
  const std::lock_guard lock(mutex_);
  return std::ranges::none_of(measured_, [&](const Measured& one) {
    return row_of(one.bucket) == row_of(bucket) &&
           size_of(one.payload_bytes) == size_of(payload_bytes);
  });
}

void OverlapChoice::record(std::size_t bucket, const std::vector<Shape>& tails,
                           std::size_t payload_bytes, const OverlapTimes& times) {
  if (is_forced_) return;
  const std::size_t row = row_of(bucket);
  const std::lock_guard lock(mutex_);
  std::erase_if(measured_, [&](const Measured& one) {
    return row_of(one.bucket) == row && size_of(one.payload_bytes) == size_of(payload_bytes);
  });
  measured_.push_back({bucket, tails, payload_bytes, times, fastest(times)});
  // Sizes between are those of the nearest; of two as near, of the smaller one.
  for (std::size_t size = 0; size < kSizes; ++size) {
    const Measured* nearest = nullptr;
    const auto distance = [&](const Measured& one) {
      return std::abs(static_cast<int>(size_of(one.payload_bytes)) - static_cast<int>(size));
    };
    for (const Measured& one : measured_) {
      if (row_of(one.bucket) != row) continue;
      if (nearest == nullptr || distance(one) < distance(*nearest) ||
          (distance(one) == distance(*nearest) && one.payload_bytes < nearest->payload_bytes)) {
        nearest = &one;
      }
    }
    chosen_[row][size].store(nearest->chosen, std::memory_order_relaxed);
  }
}

std::vector<OverlapChoice::Measured> OverlapChoice::measured() const {
  const std::lock_guard lock(mutex_);
  std::vector<Measured> sorted = measured_;
  std::ranges::sort(sorted, [](const Measured& a, const Measured& b) {
    return a.bucket != b.bucket ? a.bucket < b.bucket : a.payload_bytes < b.payload_bytes;
  });
  return sorted;
}

}  // namespace pyruntime
