#include "schedule/overlap_trials.h"

#include <algorithm>

namespace pyruntime {
namespace {

using std::chrono::milliseconds;

// Of one way, that are timed together: some turns of the pipeline, and not so few that the clock
// and the host's other work decide.
constexpr int64_t kFewest = 4;
constexpr int64_t kMost = 64;
constexpr Nanoseconds kWorthTiming = milliseconds(10);

// Ways take turns, so that what else the machine does meets all of them. Long runs get one turn:
// a model has to be ready some time, and scatters little there.
constexpr int kRounds = 3;
constexpr Nanoseconds kLong = milliseconds(20);

class Trials {
 public:
  Trials(std::span<const std::unique_ptr<BatchSlot>> slots, const Batch& batch, const Clock& clock)
      : slots_(slots), batch_(batch), clock_(clock) {}

  // Time of a batch, `count` of them; none where one failed.
  std::optional<Nanoseconds> time(Overlap overlap, int64_t count) {
    const auto depth = static_cast<int64_t>(batches_in_flight(overlap));
    const TimePoint begun = clock_.now();
    int64_t started = 0;
    for (int64_t finished = 0; finished < count; ++finished) {
      while (started < count && started - finished < depth) {
        slot(started++, depth).start_trial(batch_, overlap);
      }
      if (slot(finished, depth).finish_trial().ok()) continue;
      // Behind one that is lost none completes; else they do.
      const bool is_lost = slot(finished, depth).is_lost();
      for (int64_t left = finished + 1; left < started; ++left) {
        if (is_lost) {
          slot(left, depth).give_up_trial();
        } else {
          (void)slot(left, depth).finish_trial();
        }
      }
      return std::nullopt;
    }
    return (clock_.now() - begun) / count;
  }

 private:
  BatchSlot& slot(int64_t trial, int64_t depth) const {
    return *slots_[static_cast<std::size_t>(trial % depth)];
  }

  const std::span<const std::unique_ptr<BatchSlot>> slots_;
  const Batch& batch_;
  const Clock& clock_;
};

}  // namespace

std::optional<OverlapTimes> time_overlaps(std::span<const std::unique_ptr<BatchSlot>> slots,
                                          const Batch& batch, FairShare::Member& share,
                                          const Clock& clock) {
  Trials trials(slots, batch, clock);
  OverlapTimes best{};
  int64_t count = static_cast<int64_t>(slots.size());
  int rounds = kRounds;
  for (int round = 0; round <= rounds; ++round) {
    for (std::size_t i = 0; i < kOverlaps; ++i) {
      const FairShare::Turn turn = share.begin([&] { return best[i] * count; });
      const auto time = trials.time(static_cast<Overlap>(i), count);
      if (!time) return std::nullopt;
      // The first of each only takes memory and shows how many to time.
      best[i] = round <= 1 ? *time : std::min(best[i], *time);
    }
    const Nanoseconds each = std::max(*std::ranges::max_element(best), Nanoseconds(1));
    count = std::clamp(kWorthTiming / each, kFewest, kMost);
    if (each > kLong) rounds = 1;
  }
  return best;
}

}  // namespace pyruntime
