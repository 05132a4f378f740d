// What a batch costs by its number of rows, and how many rows are worth it.
//
// Sizes are kept by powers of two: 1, 2, 3 to 4, 5 to 8 and so on, each with the
// smoothed rows and time of its batches. Up to some size a row gets cheaper the
// more of them run together; past that knee, batches only take longer. What was
// once past it is tried again now and then: machines and models change.
//
// Threads: all calls from any. Of records made at the same moment one may be lost.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace pyruntime {

class CostModel {
 public:
  // How far an adaptive limit may go, and where it starts.
  static constexpr int64_t kMostRows = 256;
  static constexpr int64_t kFirstRows = 32;

  // One size, as it is known now.
  struct Point {
    double rows = 0;
    double ns = 0;       // of a batch, from forming it to its answers
    uint64_t count = 0;  // of batches
  };

  // max_rows: the limit; 0: found by what batches cost.
  explicit CostModel(int64_t max_rows)
      : adapts_(max_rows == 0), limit_(adapts_ ? kFirstRows : max_rows) {}

  // Of one batch.
  void record(int64_t rows, int64_t ns);

  // How long `rows` rows in one batch will take; zero while nothing is known.
  Nanoseconds predict(int64_t rows) const;

  // Rows that a batch may have.
  int64_t limit() const { return limit_.load(std::memory_order_relaxed); }

  // The sizes that occurred, ascending.
  std::vector<Point> points() const;

 private:
  static constexpr std::size_t kSizes = 18;  // up to 2^17 rows
  static constexpr uint64_t kEnough = 8;     // batches that make a size trustworthy
  static constexpr uint64_t kRevisit = 64;   // batches between two looks at the limit
  static constexpr uint64_t kProbe = 32;     // looks between two tries of the next larger size

  // Under 5 % a gain is not worth the wait.
  static constexpr double kWorth = 0.95;

  struct Size {
    std::atomic<double> rows{0};
    std::atomic<double> ns{0};
    std::atomic<uint64_t> count{0};
  };

  static std::size_t size_of(int64_t rows);
  void find_limit();

  const bool adapts_;
  std::atomic<int64_t> limit_;
  std::atomic<uint64_t> records_{0};
  std::atomic<uint64_t> looks_{0};
  std::array<Size, kSizes> sizes_;
};

}  // namespace pyruntime
