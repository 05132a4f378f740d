// How many batches of an instance are in flight on a device, and whether their copies run beside
// the runs of others.
//
// Waiting for events across streams costs some microseconds a batch, which small payloads do not
// earn back. Where the line is depends on the device, the model and the shapes: warm-up times all
// ways (overlap_trials.h), and for each shape and payload the fastest is kept.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "memory/tensor.h"

namespace pyruntime {

enum class Overlap : uint8_t {
  kNone,   // two batches, one behind the other on one stream
  kTwo,    // two, copied to and from the device on streams of their own
  kThree,  // three: one on its way to the device, one that runs, one on its way back
};
inline constexpr std::size_t kOverlaps = 3;
inline constexpr std::array<std::string_view, kOverlaps> kOverlapNames{"none", "two", "three"};

inline constexpr std::size_t batches_in_flight(Overlap overlap) {
  return overlap == Overlap::kThree ? 3 : 2;
}

// Time of a batch each way, several in flight.
using OverlapTimes = std::array<Nanoseconds, kOverlaps>;

// Of one model version's instances on one device.
//
// Threads: all calls from any.
class OverlapChoice {
 public:
  // What was measured.
  struct Measured {
    std::size_t bucket;         // see Bucket::index
    std::vector<Shape> tails;   // of each input, without dimension 0
    std::size_t payload_bytes;  // of inputs and outputs
    OverlapTimes times;
    Overlap chosen;
  };

  // forced: what is never measured.
  explicit OverlapChoice(std::optional<Overlap> forced);

  // As measured for that shape and a payload of about that size, or for the nearest size; where
  // nothing of that shape is known, by the payload alone.
  Overlap of(std::size_t bucket, std::size_t payload_bytes) const {
    return chosen_[row_of(bucket)][size_of(payload_bytes)].load(std::memory_order_relaxed);
  }

  // Whether measuring would say what is not known.
  bool is_unknown(std::size_t bucket, std::size_t payload_bytes) const;
  // tails: the bucket's, for readers.
  void record(std::size_t bucket, const std::vector<Shape>& tails, std::size_t payload_bytes,
              const OverlapTimes& times);

  std::vector<Measured> measured() const;

 private:
  static constexpr std::size_t kRows = 17;   // of buckets; the last one is all others'
  static constexpr std::size_t kSizes = 48;  // of payloads, by powers of two

  static std::size_t row_of(std::size_t bucket) { return bucket < kRows ? bucket : kRows - 1; }
  static std::size_t size_of(std::size_t payload_bytes);

  const bool is_forced_;
  std::array<std::array<std::atomic<Overlap>, kSizes>, kRows> chosen_{};

  mutable std::mutex mutex_;        // guards what is below
  std::vector<Measured> measured_;  // at most one of a row and size
};

}  // namespace pyruntime
