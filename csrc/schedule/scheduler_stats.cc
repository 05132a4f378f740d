#include "schedule/scheduler_stats.h"

#include <algorithm>
#include <chrono>

namespace pyruntime {

SchedulerStats::SchedulerStats(int64_t max_rows, const Clock& clock)
    : clock_(clock), sizes_(static_cast<std::size_t>(std::max<int64_t>(max_rows, 1)) + 2) {}

void SchedulerStats::count_batch(int64_t rows, int64_t gather_ns, int64_t run_ns,
                                 int64_t scatter_ns) {
  batches_.add();
  gather_.record(gather_ns);
  run_.record(run_ns);
  scatter_.record(scatter_ns);
  Size& size = sizes_[std::min(static_cast<std::size_t>(rows), sizes_.size() - 1)];
  size.count.add();
  size.gather_ns.add(static_cast<uint64_t>(gather_ns));
  size.run_ns.add(static_cast<uint64_t>(run_ns));
  size.scatter_ns.add(static_cast<uint64_t>(scatter_ns));
}

void SchedulerStats::count_completed(int64_t requests, int64_t rows, TimePoint now) {
  completed_.add(static_cast<uint64_t>(requests));
  rows_.add(static_cast<uint64_t>(rows));
  last_completed_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

void SchedulerStats::count_done(const Request& request, int64_t total_ns) {
  if (request.timing.queue_ns > 0) queue_.record(request.timing.queue_ns);
  switch (request.status.code()) {
    case ErrorCode::kOk:
      total_.record(total_ns);
      return;
    case ErrorCode::kCancelled:
      cancelled_.add();
      return;
    case ErrorCode::kDeadlineExceeded:
      expired_.add();
      [[fallthrough]];
    default:
      failed_.add();
      failed_total_.record(total_ns);
  }
}

SchedulerStatsSnapshot SchedulerStats::read() const {
  SchedulerStatsSnapshot s;
  // Ends before beginnings, so that no reader sees more requests done than accepted.
  s.completed = completed_.read();
  s.failed = failed_.read();
  s.cancelled = cancelled_.read();
  s.expired = expired_.read();
  s.accepted = accepted_.read();
  s.rejected = rejected_.read();
  s.rows = rows_.read();
  s.batches = batches_.read();
  s.retried = retried_.read();
  s.inputs_copied = inputs_copied_.read();
  if (const int64_t at_ns = last_completed_.load(std::memory_order_relaxed); at_ns != 0) {
    const Nanoseconds ago = clock_.now().time_since_epoch() - Nanoseconds(at_ns);
    s.last_completed_unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                                   std::chrono::system_clock::now().time_since_epoch() - ago)
                                   .count();
  }
  s.queue = queue_.read();
  s.gather = gather_.read();
  s.run = run_.read();
  s.scatter = scatter_.read();
  s.total = total_.read();
  s.failed_total = failed_total_.read();
  for (std::size_t rows = 0; rows < sizes_.size(); ++rows) {
    const Size& size = sizes_[rows];
    if (const uint64_t count = size.count.read(); count != 0) {
      s.by_batch_rows.push_back({static_cast<int64_t>(rows), count, size.gather_ns.read(),
                                 size.run_ns.read(), size.scatter_ns.read()});
    }
  }
  return s;
}

}  // namespace pyruntime
