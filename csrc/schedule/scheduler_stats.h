// What a model version's scheduler counts.
//
// Each instance counts its own runs, in RunStats that only its owner writes;
// what concerns no instance is counted in SchedulerStats. Readers add it up.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/cache_line.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/metrics.h"
#include "schedule/active_runs.h"

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
  uint64_t rejected = 0;               // never accepted: queue full or deadline out of reach
  uint64_t rows = 0;                   // of completed requests
  uint64_t batches = 0;                // runs of the engine
  uint64_t overlapped = 0;             // of them, those that were copied beside other runs
  uint64_t replayed = 0;               // of them, those that ran as a captured graph
  uint64_t retried = 0;                // requests run again alone after their batch failed
  uint64_t inputs_copied = 0;          // counted by bindings: inputs that had to be made contiguous
  uint64_t replaced = 0;               // instances whose device did not complete a run
  int64_t stuck = 0;                   // instances whose run takes longer than stuck_after
  int64_t stuck_since_unix_ms = 0;     // when the oldest of these runs began; 0: none
  int64_t last_completed_unix_ms = 0;  // 0: none yet
  HistogramSnapshot queue;
  HistogramSnapshot gather;
  HistogramSnapshot run;
  HistogramSnapshot scatter;
  HistogramSnapshot total;  // from submission to completion, of completed requests
  HistogramSnapshot failed_total;
  std::vector<BatchSizeStats> by_batch_rows;  // only sizes that occurred, ascending
};

// How requests ended.
template <Writers writers>
class OutcomeStats {
 public:
  // queue_ns: until its batch was formed, 0 if that never happened.
  void count(ErrorCode code, int64_t rows, int64_t queue_ns, int64_t total_ns) {
    if (code == ErrorCode::kOk) {
      Results(*this).add(rows, queue_ns, total_ns);
      return;
    }
    if (queue_ns > 0) queue_.record(queue_ns);
    if (code == ErrorCode::kCancelled) {
      cancelled_.add();
    } else {
      if (code == ErrorCode::kDeadlineExceeded) expired_.add();
      failed_total_.record(total_ns);
      failed_.add();
    }
  }

  // Requests with a result, of which what adds up is added once, when it ends.
  class Results {
   public:
    explicit Results(OutcomeStats& stats)
        : stats_(stats), queue_(stats.queue_), total_(stats.total_) {}
    ~Results() {
      stats_.rows_.add(rows_);
      stats_.completed_.add(count_);
    }
    Results(const Results&) = delete;
    Results& operator=(const Results&) = delete;

    void add(int64_t rows, int64_t queue_ns, int64_t total_ns) {
      if (queue_ns > 0) queue_.add(queue_ns);
      total_.add(total_ns);
      rows_ += static_cast<uint64_t>(rows);
      ++count_;
    }

   private:
    OutcomeStats& stats_;
    typename BasicHistogram<writers>::Records queue_, total_;
    uint64_t rows_ = 0;
    uint64_t count_ = 0;
  };

  void add_to(SchedulerStatsSnapshot* sum) const {
    sum->completed += completed_.read();
    sum->failed += failed_.read();
    sum->cancelled += cancelled_.read();
    sum->expired += expired_.read();
    sum->rows += rows_.read();
    sum->queue.merge(queue_.read());
    sum->total.merge(total_.read());
    sum->failed_total.merge(failed_total_.read());
  }
  HistogramSnapshot total() const { return total_.read(); }

 private:
  BasicCounter<writers> completed_, failed_, cancelled_, expired_, rows_;
  BasicHistogram<writers> queue_, total_, failed_total_;
};

// Of one instance.
//
// Threads: count_...() by the owner of the instance, add_to() from any.
class RunStats {
 public:
  using Results = OutcomeStats<Writers::kOne>::Results;

  // max_rows: batches above it are counted with those of max_rows + 1.
  explicit RunStats(int64_t max_rows);

  void count_batch(int64_t rows, int64_t gather_ns, int64_t run_ns, int64_t scatter_ns,
                   TimePoint now);
  void count_overlapped() { overlapped_.add(); }
  void count_replayed() { replayed_.add(); }
  void count_retried(uint64_t n) { retried_.add(n); }
  void count_replaced() { replaced_.add(); }
  // Both before whoever waits for a request can know that it is done.
  void count_outcome(ErrorCode code, int64_t rows, int64_t queue_ns, int64_t total_ns) {
    outcomes_.count(code, rows, queue_ns, total_ns);
  }
  Results results() { return Results(outcomes_); }

  void add_to(SchedulerStatsSnapshot* sum) const;
  HistogramSnapshot total() const { return outcomes_.total(); }
  // When the last batch was completed; TimePoint{}: never.
  TimePoint last_completed() const;

 private:
  struct Size {
    SoleCounter count, gather_ns, run_ns, scatter_ns;
  };

  alignas(kCacheLine) SoleCounter batches_, overlapped_, replayed_, retried_, replaced_;
  std::atomic<int64_t> last_completed_{0};  // ns of the clock; 0: never
  OutcomeStats<Writers::kOne> outcomes_;
  SoleHistogram gather_, run_, scatter_;
  std::vector<Size> sizes_;  // [1] to [max_rows + 1]
};

// Threads: all calls from any.
class SchedulerStats {
 public:
  SchedulerStats(int64_t max_rows, const Clock& clock)
      : max_rows_(max_rows), clock_(clock), active_runs_(clock) {}

  const Clock& clock() const { return clock_; }

  // Of one more instance; it lives as long as this.
  RunStats& add_instance();
  std::size_t instance_count() const;
  // What runs now.
  ActiveRuns& active_runs() { return active_runs_; }

  void count_rejected() { rejected_.add(); }
  void count_input_copied() { inputs_copied_.add(); }
  // Of a request that was answered without a run.
  void count_unserved(ErrorCode code, int64_t queue_ns, int64_t total_ns) {
    unserved_.count(code, 0, queue_ns, total_ns);
  }

  // All but `accepted`, which the admission counts: to be read after this, so
  // that no more seem done than accepted.
  SchedulerStatsSnapshot read() const;
  // Of completed requests, from submission to completion: what read() has, for less.
  HistogramSnapshot total() const;

 private:
  const int64_t max_rows_;
  const Clock& clock_;

  ActiveRuns active_runs_;
  Counter rejected_, inputs_copied_;
  OutcomeStats<Writers::kMany> unserved_;

  mutable std::mutex mutex_;  // guards what is below
  std::vector<std::unique_ptr<RunStats>> instances_;
};

}  // namespace pyruntime
