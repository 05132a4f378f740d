// To which sizes the lengths of one dimension are padded.
//
// Learned: a few sizes of a grid with four steps an octave (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, ...),
// chosen so that the lengths that came last are padded least. Before enough of them came, the
// next power of two.
//
// Threads: all calls from any. Of lengths counted at the same moment none is lost.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace pyruntime {

class PaddingSizes {
 public:
  static constexpr std::size_t kMostSizes = 8;           // learned ones
  static constexpr int64_t kLargest = int64_t{1} << 16;  // longer ones are not padded

  // fixed: ascending; empty: learned. largest: no size exceeds it; 0: kLargest.
  PaddingSizes(std::vector<int64_t> fixed, int64_t largest);

  // Counts `length`, and says to which size it is padded: `length` itself where no size fits.
  int64_t pad(int64_t length);

  // The model has failed at `size` with what it took unpadded: neither that size nor a larger one
  // is used again.
  void forbid(int64_t size);

  // That are used now, ascending.
  std::vector<int64_t> sizes() const;

 private:
  static constexpr std::size_t kGrid = 4 + 14 * 4;  // up to kLargest
  static constexpr uint32_t kFirstLook = 64;        // lengths before the first choice
  static constexpr uint32_t kLook = 1024;           // and between two of them
  static constexpr double kWorthOneMore = 0.975;    // each size saves at least 2.5 %
  static constexpr double kWorthOthers = 0.95;      // and other sizes than now 5 %

  static std::size_t place_of(int64_t length);
  static int64_t size_at(std::size_t place);
  int64_t size_for(int64_t length) const;
  void learn();

  const std::vector<int64_t> fixed_;
  std::atomic<int64_t> largest_;
  std::array<std::atomic<uint8_t>, kGrid> targets_;  // of each place, the one padded to
  std::array<std::atomic<uint32_t>, kGrid> counts_{};
  std::atomic<uint32_t> counted_{0};
  std::atomic<uint32_t> next_look_{kFirstLook};
  std::mutex learning_;  // one at a time
};

}  // namespace pyruntime
