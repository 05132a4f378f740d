#include "schedule/padding_sizes.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

namespace pyruntime {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

std::size_t PaddingSizes::place_of(int64_t length) {
  if (length <= 4) return static_cast<std::size_t>(std::max<int64_t>(length, 1) - 1);
  // Sizes are 5, 6, 7 and 8 times a power of two.
  const auto above = static_cast<uint64_t>(length - 1);
  const auto shift = static_cast<unsigned>(std::bit_width(above) - 3);
  return 4 + std::size_t{shift} * 4 + static_cast<std::size_t>((above >> shift) - 4);
}

int64_t PaddingSizes::size_at(std::size_t place) {
  if (place < 4) return static_cast<int64_t>(place) + 1;
  return static_cast<int64_t>(5 + (place - 4) % 4) << ((place - 4) / 4);
}

PaddingSizes::PaddingSizes(std::vector<int64_t> fixed, int64_t largest)
    : fixed_(std::move(fixed)), largest_(largest == 0 ? kLargest : largest) {
  for (std::size_t place = 0; place < kGrid; ++place) {
    const auto octave = std::bit_ceil(static_cast<uint64_t>(size_at(place)));
    targets_[place].store(static_cast<uint8_t>(place_of(static_cast<int64_t>(octave))), kRelaxed);
  }
}

int64_t PaddingSizes::size_for(int64_t length) const {
  const int64_t largest = largest_.load(kRelaxed);
  int64_t size = 0;
  if (!fixed_.empty()) {
    const auto found = std::lower_bound(fixed_.begin(), fixed_.end(), length);
    size = found == fixed_.end() ? length : *found;
    return size <= largest ? size : length;
  }
  if (length < 1 || length > kLargest) return length;
  size = size_at(targets_[place_of(length)].load(kRelaxed));
  if (size > largest) size = size_at(place_of(length));
  return size <= largest ? size : length;
}

int64_t PaddingSizes::pad(int64_t length) {
  if (fixed_.empty() && length >= 1 && length <= kLargest) {
    counts_[place_of(length)].fetch_add(1, kRelaxed);
    if (counted_.fetch_add(1, kRelaxed) + 1 >= next_look_.load(kRelaxed)) learn();
  }
  return size_for(length);
}

void PaddingSizes::forbid(int64_t size) {
  int64_t largest = largest_.load(kRelaxed);
  while (size <= largest && !largest_.compare_exchange_weak(largest, size - 1, kRelaxed)) {
  }
}

std::vector<int64_t> PaddingSizes::sizes() const {
  const int64_t largest = largest_.load(kRelaxed);
  std::vector<int64_t> sizes = fixed_;
  if (sizes.empty()) {
    for (std::size_t place = 0; place < kGrid; ++place) {
      if (counts_[place].load(kRelaxed) != 0) sizes.push_back(size_for(size_at(place)));
    }
    std::ranges::sort(sizes);
    sizes.erase(std::ranges::unique(sizes).begin(), sizes.end());
  }
  std::erase_if(sizes, [&](int64_t size) { return size > largest; });
  return sizes;
}

// The best `n` sizes for `n` up to kMostSizes, by dynamic programming over the places: best[n][i]
// is what the lengths up to place i cost in elements if n sizes serve them, the last one being i.
void PaddingSizes::learn() {
  const std::unique_lock lock(learning_, std::try_to_lock);
  if (!lock.owns_lock() || counted_.load(kRelaxed) < next_look_.load(kRelaxed)) return;
  std::array<double, kGrid> counts{};
  double now = 0;  // elements, with the sizes of now
  std::size_t last = 0;
  for (std::size_t i = 0; i < kGrid; ++i) {
    const uint32_t count = counts_[i].load(kRelaxed);
    counts[i] = count;
    now += counts[i] * static_cast<double>(size_at(targets_[i].load(kRelaxed)));
    if (count != 0) last = i;
    counts_[i].fetch_sub((count + 1) / 2, kRelaxed);  // what came long ago counts for less
  }
  counted_.store(0, kRelaxed);
  next_look_.store(kLook, kRelaxed);

  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::array<std::array<double, kGrid>, kMostSizes + 1> best{};
  std::array<std::array<std::size_t, kGrid>, kMostSizes + 1> before{};
  std::size_t chosen = 0;
  for (std::size_t n = 1; n <= kMostSizes; ++n) {
    for (std::size_t i = 0; i <= last; ++i) {
      double between = 0;  // lengths after place j, up to i
      best[n][i] = kNever;
      for (std::size_t j = i + 1; j-- > 0;) {
        between += counts[j];
        const double rest = j == 0 ? (n == 1 ? 0 : kNever) : (n == 1 ? kNever : best[n - 1][j - 1]);
        const double cost = rest + between * static_cast<double>(size_at(i));
        if (cost < best[n][i]) {
          best[n][i] = cost;
          before[n][i] = j;  // the first place that i serves
        }
      }
    }
    if (n > 1 && best[n][last] > kWorthOneMore * best[n - 1][last]) break;
    chosen = n;
  }
  // Other sizes mean shapes that the engine has not seen: not for a trifle.
  if (best[chosen][last] > kWorthOthers * now) return;
  for (std::size_t i = last, n = chosen; n > 0; --n) {
    for (std::size_t j = before[n][i]; j <= i; ++j) {
      targets_[j].store(static_cast<uint8_t>(i), kRelaxed);
    }
    if (before[n][i] == 0) break;
    i = before[n][i] - 1;
  }
}

}  // namespace pyruntime
