#include <doctest/doctest.h>

#include "base/clock.h"
#include "schedule/scheduler_stats.h"

namespace pyruntime {

TEST_CASE("what instances count is added up") {
  ManualClock clock;
  SchedulerStats stats(/*max_rows=*/8, clock);
  RunStats& first = stats.add_instance();
  RunStats& second = stats.add_instance();
  first.count_batch(2, 10, 100, 1, clock.now());
  first.count_batch(8, 20, 400, 2, clock.now());
  second.count_batch(4, 15, 200, 3, clock.now());
  second.count_batch(8, 25, 500, 4, clock.now());
  first.count_retried(3);
  first.count_outcome(ErrorCode::kOk, 2, 50, 161);
  second.count_outcome(ErrorCode::kOk, 4, 60, 278);
  second.count_outcome(ErrorCode::kEngineError, 8, 70, 500);

  const SchedulerStatsSnapshot sum = stats.read();
  CHECK(sum.batches == 4);
  CHECK(sum.retried == 3);
  CHECK(sum.completed == 2);
  CHECK(sum.failed == 1);
  CHECK(sum.rows == 6);
  CHECK(sum.run.sum_ns == 1200);
  CHECK(sum.queue.count == 3);
  CHECK(sum.total.max_ns == 278);
  CHECK(sum.failed_total.max_ns == 500);
  REQUIRE(sum.by_batch_rows.size() == 3);
  CHECK(sum.by_batch_rows[0].rows == 2);
  CHECK(sum.by_batch_rows[1].rows == 4);
  CHECK(sum.by_batch_rows[2].rows == 8);
  CHECK(sum.by_batch_rows[2].count == 2);
  CHECK(sum.by_batch_rows[2].run_ns == 900);
}

TEST_CASE("batches above max_rows are counted together") {
  ManualClock clock;
  SchedulerStats stats(/*max_rows=*/8, clock);
  RunStats& instance = stats.add_instance();
  instance.count_batch(100, 0, 1, 0, clock.now());
  instance.count_batch(9, 0, 1, 0, clock.now());
  const SchedulerStatsSnapshot sum = stats.read();
  REQUIRE(sum.by_batch_rows.size() == 1);
  CHECK(sum.by_batch_rows[0].rows == 9);
  CHECK(sum.by_batch_rows[0].count == 2);
}

TEST_CASE("requests answered without a run are told apart") {
  ManualClock clock;
  SchedulerStats stats(/*max_rows=*/8, clock);
  stats.count_unserved(ErrorCode::kCancelled, 0, 10);
  stats.count_unserved(ErrorCode::kDeadlineExceeded, 20, 20);
  const SchedulerStatsSnapshot sum = stats.read();
  CHECK(sum.cancelled == 1);
  CHECK(sum.expired == 1);
  CHECK(sum.failed == 1);
  CHECK(sum.failed_total.count == 1);
  CHECK(sum.last_completed_unix_ms == 0);
}

}  // namespace pyruntime
