#include "schedule/cost_model.h"

#include <algorithm>
#include <bit>

namespace pyruntime {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

std::size_t CostModel::size_of(int64_t rows) {
  const auto size = static_cast<std::size_t>(
      std::bit_width(static_cast<uint64_t>(std::max<int64_t>(rows, 1) - 1)));
  return std::min(size, kSizes - 1);
}

void CostModel::record(int64_t rows, int64_t ns) {
  Size& size = sizes_[size_of(rows)];
  const uint64_t count = size.count.load(kRelaxed);
  const auto value = static_cast<double>(std::max<int64_t>(ns, 1));
  const double known = size.ns.load(kRelaxed);
  double next = value;
  if (count == 1) {
    next = std::min(known, value);  // the first run of a size may have been a cold one
  } else if (count > 1) {
    // A batch may have been interrupted for ever so long: it counts as twice the usual.
    next = known + (std::min(value, 2 * known) - known) / 8;
  }
  const double known_rows = size.rows.load(kRelaxed);
  const auto its_rows = static_cast<double>(rows);
  size.rows.store(count == 0 ? its_rows : known_rows + (its_rows - known_rows) / 8, kRelaxed);
  size.ns.store(next, kRelaxed);
  size.count.store(count + 1, kRelaxed);
  if (!adapts_) return;
  const uint64_t records = records_.load(kRelaxed) + 1;
  records_.store(records, kRelaxed);
  if (records % kRevisit == 0 || count + 1 == kEnough) find_limit();
}

void CostModel::find_limit() {
  double best = 0;  // ns a row; 0: none yet
  std::size_t largest = 0;
  for (std::size_t i = 0; i < kSizes; ++i) {
    if (sizes_[i].count.load(kRelaxed) < kEnough) continue;
    const double cost = sizes_[i].ns.load(kRelaxed) / sizes_[i].rows.load(kRelaxed);
    if (best == 0 || cost < best) best = cost;
    largest = i;
  }
  if (best == 0) return;
  for (std::size_t i = 0; i <= largest; ++i) {
    if (sizes_[i].count.load(kRelaxed) < kEnough) continue;
    const double cost = sizes_[i].ns.load(kRelaxed) / sizes_[i].rows.load(kRelaxed);
    if (cost * kWorth > best) continue;
    // The smallest size that is nearly the best. If it is the largest seen, a
    // larger one may be better yet.
    const int64_t knee = int64_t{1} << i;
    int64_t limit = knee;
    if (i == largest) limit = knee >= kFirstRows ? knee * 2 : kFirstRows;
    const uint64_t looks = looks_.load(kRelaxed) + 1;
    looks_.store(looks, kRelaxed);
    if (looks % kProbe == 0) limit = std::max(limit, knee * 2);
    limit_.store(std::clamp<int64_t>(limit, 1, kMostRows), kRelaxed);
    return;
  }
}

Nanoseconds CostModel::predict(int64_t rows) const {
  const auto wanted = static_cast<double>(rows);
  double low_rows = 0;
  double low_ns = 0;
  for (const Size& size : sizes_) {
    if (size.count.load(kRelaxed) == 0) continue;
    const double its_rows = size.rows.load(kRelaxed);
    const double its_ns = size.ns.load(kRelaxed);
    if (wanted <= its_rows) {
      // Below the smallest size known, as long as that one.
      if (low_rows == 0) return Nanoseconds(static_cast<int64_t>(its_ns));
      const double share = (wanted - low_rows) / (its_rows - low_rows);
      return Nanoseconds(static_cast<int64_t>(low_ns + share * (its_ns - low_ns)));
    }
    low_rows = its_rows;
    low_ns = its_ns;
  }
  if (low_rows == 0) return Nanoseconds(0);
  return Nanoseconds(static_cast<int64_t>(low_ns * wanted / low_rows));
}

std::vector<CostModel::Point> CostModel::points() const {
  std::vector<Point> points;
  for (const Size& size : sizes_) {
    const uint64_t count = size.count.load(kRelaxed);
    if (count != 0) points.push_back({size.rows.load(kRelaxed), size.ns.load(kRelaxed), count});
  }
  return points;
}

}  // namespace pyruntime
