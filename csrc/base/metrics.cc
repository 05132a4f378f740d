#include "base/metrics.h"

#include <algorithm>

namespace pyruntime {

void HistogramSnapshot::merge(const HistogramSnapshot& other) {
  for (unsigned i = 0; i < HistogramScale::kBuckets; ++i) buckets[i] += other.buckets[i];
  count += other.count;
  sum_ns += other.sum_ns;
  max_ns = std::max(max_ns, other.max_ns);
}

double HistogramSnapshot::quantile_ns(double q) const {
  if (count == 0) return 0.0;
  const double rank = std::clamp(q, 0.0, 1.0) * static_cast<double>(count);
  uint64_t seen = 0;
  for (unsigned i = 0; i < HistogramScale::kBuckets; ++i) {
    seen += buckets[i];
    if (buckets[i] != 0 && static_cast<double>(seen) >= rank) {
      const auto low = static_cast<double>(HistogramScale::lower_bound(i));
      const double high = i + 1 < HistogramScale::kBuckets
                              ? static_cast<double>(HistogramScale::lower_bound(i + 1))
                              : low;
      return std::min((low + high) / 2, static_cast<double>(max_ns));
    }
  }
  return static_cast<double>(max_ns);
}

}  // namespace pyruntime
