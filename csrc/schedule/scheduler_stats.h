// What a model version's scheduler counts.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/metrics.h"
#include "schedule/request.h"

namespace pyruntime {

// Of all batches with one number of rows.
struct BatchSizeStats {
  int64_t rows = 0;
  uint64_t count = 0;
  uint64_t gather_ns = 0;
  uint64_t run_ns = 0;
  uint64_t scatter_ns = 0;
};

// accepted = completed + failed + cancelled + what is in flight.
struct SchedulerStatsSnapshot {
  uint64_t accepted = 0;
  uint64_t completed = 0;  // with a result
  uint64_t failed = 0;     // with an error, expired ones included
  uint64_t cancelled = 0;
  uint64_t expired = 0;                // of the failed: their deadline passed in the queue
  uint64_t rejected = 0;               // never accepted: the queue was full
  uint64_t rows = 0;                   // of completed requests
  uint64_t batches = 0;                // runs of the engine
  uint64_t retried = 0;                // requests run again alone after their batch failed
  uint64_t inputs_copied = 0;          // counted by bindings: inputs that had to be made contiguous
  int64_t last_completed_unix_ms = 0;  // 0: none yet
  HistogramSnapshot queue;
  HistogramSnapshot gather;
  HistogramSnapshot run;
  HistogramSnapshot scatter;
  HistogramSnapshot total;  // from submission to completion, of completed requests
  HistogramSnapshot failed_total;
  std::vector<BatchSizeStats> by_batch_rows;  // only sizes that occurred, ascending
};

// Threads: all calls from any.
class SchedulerStats {
 public:
  // max_rows: batches above it are counted with those of max_rows + 1.
  SchedulerStats(int64_t max_rows, const Clock& clock);

  const Clock& clock() const { return clock_; }

  void count_accepted() { accepted_.add(); }
  void count_rejected() { rejected_.add(); }
  void count_retried(uint64_t n) { retried_.add(n); }
  void count_input_copied() { inputs_copied_.add(); }
  void count_batch(int64_t rows, int64_t gather_ns, int64_t run_ns, int64_t scatter_ns);
  // Requests with a result, together; before count_done() of each.
  void count_completed(int64_t requests, int64_t rows, TimePoint now);
  void count_done(const Request& request, int64_t total_ns);

  SchedulerStatsSnapshot read() const;

 private:
  struct Size {
    Counter count, gather_ns, run_ns, scatter_ns;
  };

  const Clock& clock_;
  // By those who submit, and apart from it, by those who run.
  alignas(kCacheLine) Counter accepted_, rejected_, inputs_copied_;
  alignas(kCacheLine) Counter completed_, failed_, cancelled_, expired_, rows_, batches_, retried_;
  std::atomic<int64_t> last_completed_{0};  // ns of clock_; 0: never
  Histogram queue_, gather_, run_, scatter_, total_, failed_total_;
  std::vector<Size> sizes_;  // [1] to [max_rows + 1]
};

}  // namespace pyruntime
