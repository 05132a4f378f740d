#include "schedule/scheduler_stats.h"

#include <algorithm>
#include <chrono>

namespace pyruntime {

RunStats::RunStats(int64_t max_rows)
    : sizes_(static_cast<std::size_t>(std::max<int64_t>(max_rows, 1)) + 2) {}

void RunStats::count_batch(int64_t rows, int64_t gather_ns, int64_t run_ns, int64_t scatter_ns,
                           TimePoint now) {
  batches_.add();
  gather_.record(gather_ns);
  run_.record(run_ns);
  scatter_.record(scatter_ns);
  Size& size = sizes_[std::min(static_cast<std::size_t>(rows), sizes_.size() - 1)];
  size.count.add();
  size.gather_ns.add(static_cast<uint64_t>(gather_ns));
  size.run_ns.add(static_cast<uint64_t>(run_ns));
  size.scatter_ns.add(static_cast<uint64_t>(scatter_ns));
  last_completed_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

TimePoint RunStats::last_completed() const {
  return TimePoint(Nanoseconds(last_completed_.load(std::memory_order_relaxed)));
}

void RunStats::add_to(SchedulerStatsSnapshot* sum) const {
  outcomes_.add_to(sum);
  sum->batches += batches_.read();
  sum->overlapped += overlapped_.read();
  sum->replayed += replayed_.read();
  sum->retried += retried_.read();
  sum->replaced += replaced_.read();
  sum->gather.merge(gather_.read());
  sum->run.merge(run_.read());
  sum->scatter.merge(scatter_.read());
  std::vector<BatchSizeStats>& sums = sum->by_batch_rows;
  for (std::size_t rows = 0; rows < sizes_.size(); ++rows) {
    const Size& size = sizes_[rows];
    const uint64_t count = size.count.read();
    if (count == 0) continue;
    auto at = std::ranges::lower_bound(sums, static_cast<int64_t>(rows), {}, &BatchSizeStats::rows);
    if (at == sums.end() || at->rows != static_cast<int64_t>(rows)) {
      at = sums.insert(at, {.rows = static_cast<int64_t>(rows)});
    }
    at->count += count;
    at->gather_ns += size.gather_ns.read();
    at->run_ns += size.run_ns.read();
    at->scatter_ns += size.scatter_ns.read();
  }
}

RunStats& SchedulerStats::add_instance() {
  const std::lock_guard lock(mutex_);
  return *instances_.emplace_back(std::make_unique<RunStats>(max_rows_));
}

std::size_t SchedulerStats::instance_count() const {
  const std::lock_guard lock(mutex_);
  return instances_.size();
}

HistogramSnapshot SchedulerStats::total() const {
  HistogramSnapshot sum;  // who completes without a run has failed
  const std::lock_guard lock(mutex_);
  for (const auto& instance : instances_) sum.merge(instance->total());
  return sum;
}

SchedulerStatsSnapshot SchedulerStats::read() const {
  SchedulerStatsSnapshot sum;
  TimePoint last{};
  {
    const std::lock_guard lock(mutex_);
    for (const auto& instance : instances_) {
      instance->add_to(&sum);
      last = std::max(last, instance->last_completed());
    }
  }
  unserved_.add_to(&sum);
  sum.rejected = rejected_.read();
  sum.inputs_copied = inputs_copied_.read();
  const auto unix_ms = [this](TimePoint at) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch() - (clock_.now() - at))
        .count();
  };
  if (last != TimePoint{}) sum.last_completed_unix_ms = unix_ms(last);
  const ActiveRuns::Overdue overdue = active_runs_.overdue();
  sum.stuck = overdue.count;
  if (overdue.count != 0) sum.stuck_since_unix_ms = unix_ms(overdue.oldest);
  return sum;
}

}  // namespace pyruntime
