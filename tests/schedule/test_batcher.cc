#include <memory>
#include <vector>

#include <doctest/doctest.h>

#include "schedule/batcher.h"
#include "schedule/request_pool.h"
#include "schedule/scheduler_stats.h"

namespace pyruntime {
namespace {

using std::chrono::microseconds;

Signature rows_by_any() {
  TensorSpec spec;
  spec.name = "x";
  spec.type = DataType::kFloat32;
  spec.dims = {-1, -1};
  spec.symbols = {"", ""};
  Signature signature;
  signature.inputs = {spec};
  signature.outputs = {spec};
  signature.is_batchable = true;
  return signature;
}

class Fixture {
 public:
  explicit Fixture(BatchingOptions options = {}, Signature model = rows_by_any())
      : signature(std::move(model)),
        admission(options.queue_capacity),
        stats(options.max_rows, clock),
        batcher(options, signature, admission) {}

  // A queued request of [rows, columns], as the scheduler queues it.
  RequestRef add(int64_t rows, int64_t columns = 2, Priority priority = Priority::kNormal,
                 TimePoint deadline = kNever);

  // The rows of each member of the next batch, sealed now and failed.
  std::vector<int64_t> next() {
    batch.clear();
    std::vector<int64_t> rows;
    if (!batcher.collect(batch, carry)) return rows;
    for (const Request* request : batch.members) rows.push_back(request->inputs[0].shape[0]);
    return rows;
  }

  ManualClock clock;
  Signature signature;
  RequestPool pool{1, 1};
  Admission admission;
  SchedulerStats stats;
  Batcher batcher;
  Batch batch;
  Request* carry = nullptr;
  float value = 0;
};

}  // namespace

// Does to a request what the scheduler does at submission and completion.
struct RequestTestPeer {
  static void queue(Fixture& fixture, Request& request, int64_t rows) {
    REQUIRE(fixture.admission.enter().ok());
    request.stats_ = &fixture.stats;
    request.admission_ = &fixture.admission;
    request.submitted_at_ = fixture.clock.now();
    fixture.batcher.prepare(request, rows);
    fixture.batcher.submit(request);
  }
  static void complete(Fixture& fixture, Batch& batch) {
    const auto count = static_cast<int64_t>(batch.members.size());
    for (Request* request : batch.members) {
      request->answer(Batch::kReferences);
    }
    batch.clear();
    fixture.admission.leave(count);
  }
};

namespace {

RequestRef Fixture::add(int64_t rows, int64_t columns, Priority priority, TimePoint deadline) {
  RequestRef request = pool.take();
  request->inputs[0].shape = Shape{rows, columns};
  request->inputs[0].data = reinterpret_cast<std::byte*>(&value);
  request->priority = priority;
  request->deadline = deadline;
  RequestTestPeer::queue(*this, *request, rows);
  return request;
}

void run(Fixture& fixture) {
  if (fixture.batcher.seal(fixture.batch, fixture.clock.now())) {
    RequestTestPeer::complete(fixture, fixture.batch);
  }
}

using Rows = std::vector<int64_t>;

}  // namespace

TEST_CASE("waiting requests of one shape form a batch in their order") {
  Fixture fixture;
  const std::vector<RequestRef> requests = {fixture.add(1), fixture.add(3), fixture.add(2)};
  CHECK(fixture.next() == Rows{1, 3, 2});
  CHECK(fixture.batch.rows == 6);
  run(fixture);
  for (const RequestRef& request : requests) CHECK(request->is_done());
  CHECK(fixture.admission.outstanding() == 0);
}

TEST_CASE("a batch holds at most max_rows and the next begins with what did not fit") {
  Fixture fixture({.max_rows = 4});
  const std::vector<RequestRef> requests = {fixture.add(3), fixture.add(2), fixture.add(2)};
  CHECK(fixture.next() == Rows{3});
  run(fixture);
  CHECK(fixture.next() == Rows{2, 2});
  run(fixture);
  CHECK(fixture.next().empty());
}

TEST_CASE("a request of more than max_rows runs alone") {
  Fixture fixture({.max_rows = 4});
  const std::vector<RequestRef> requests = {fixture.add(9), fixture.add(1)};
  CHECK(fixture.next() == Rows{9});
  run(fixture);
  CHECK(fixture.next() == Rows{1});
  run(fixture);
}

TEST_CASE("requests of unequal shapes never share a batch") {
  Fixture fixture;
  const std::vector<RequestRef> requests = {fixture.add(1, 2), fixture.add(1, 3), fixture.add(1, 2),
                                            fixture.add(1, 3)};
  for (int i = 0; i < 2; ++i) {
    CHECK(fixture.next() == Rows{1, 1});
    CHECK(fixture.batch.members[0]->inputs[0].shape == fixture.batch.members[1]->inputs[0].shape);
    run(fixture);
  }
  CHECK(fixture.batcher.is_empty());
}

TEST_CASE("shapes beyond the number of buckets run alone") {
  Fixture fixture;
  std::vector<RequestRef> requests;
  for (int64_t columns = 1; columns <= 200; ++columns) requests.push_back(fixture.add(1, columns));
  requests.push_back(fixture.add(1, 200));
  std::size_t batches = 0;
  while (!fixture.next().empty()) {
    CHECK(fixture.batch.members.size() == 1);
    run(fixture);
    ++batches;
  }
  CHECK(batches == 201);
}

TEST_CASE("a higher priority goes first") {
  Fixture fixture({.max_rows = 1});
  const RequestRef low = fixture.add(1, 2, Priority::kLow);
  const RequestRef normal = fixture.add(1, 2, Priority::kNormal);
  const RequestRef high = fixture.add(1, 2, Priority::kHigh);
  for (const RequestRef& expected : {high, normal, low}) {
    fixture.next();
    CHECK(fixture.batch.members.front() == expected.get());
    run(fixture);
  }
}

TEST_CASE("a higher priority goes first whatever its shape") {
  Fixture fixture;
  std::vector<RequestRef> low;
  for (int64_t columns = 1; columns <= 5; ++columns) {
    low.push_back(fixture.add(1, columns, Priority::kLow));
  }
  const RequestRef high = fixture.add(1, 9, Priority::kHigh);
  fixture.next();
  CHECK(fixture.batch.members.front() == high.get());
  do run(fixture);
  while (!fixture.next().empty());
}

TEST_CASE("a batch does not wait for company until a deadline has passed") {
  Fixture fixture({.max_rows = 8, .max_delay = microseconds(1000)});
  const TimePoint soon = fixture.clock.now() + microseconds(100);
  const RequestRef request = fixture.add(1, 2, Priority::kNormal, soon);
  fixture.next();
  fixture.clock.advance(microseconds(50));
  CHECK(fixture.batcher.is_due(fixture.batch, fixture.carry, fixture.clock.now()));
  run(fixture);
  CHECK(request->status.ok());
}

TEST_CASE("a batch does not wait while another shape does") {
  Fixture fixture({.max_rows = 8, .max_delay = microseconds(1000)});
  const std::vector<RequestRef> requests = {fixture.add(1, 2), fixture.add(1, 3)};
  fixture.next();
  CHECK(fixture.batcher.is_due(fixture.batch, fixture.carry, fixture.clock.now()));
  run(fixture);
  fixture.next();
  run(fixture);
}

TEST_CASE("a batch is due when its oldest request has waited max_delay") {
  Fixture fixture({.max_rows = 8, .max_delay = microseconds(100)});
  const RequestRef request = fixture.add(1);
  fixture.next();
  CHECK_FALSE(fixture.batcher.is_due(fixture.batch, fixture.carry, fixture.clock.now()));
  fixture.clock.advance(microseconds(99));
  CHECK_FALSE(fixture.batcher.is_due(fixture.batch, fixture.carry, fixture.clock.now()));
  fixture.clock.advance(microseconds(1));
  CHECK(fixture.batcher.is_due(fixture.batch, fixture.carry, fixture.clock.now()));
  run(fixture);
}

TEST_CASE("a full batch is due at once") {
  Fixture fixture({.max_rows = 2, .max_delay = microseconds(100)});
  const std::vector<RequestRef> requests = {fixture.add(1), fixture.add(1)};
  fixture.next();
  CHECK(fixture.batcher.is_due(fixture.batch, fixture.carry, fixture.clock.now()));
  run(fixture);
}

TEST_CASE("a request whose deadline has passed is dropped before it runs") {
  Fixture fixture;
  const TimePoint soon = fixture.clock.now() + microseconds(50);
  const RequestRef expires = fixture.add(1, 2, Priority::kNormal, soon);
  const RequestRef stays = fixture.add(1);
  fixture.clock.advance(microseconds(51));
  fixture.next();
  CHECK(fixture.batcher.seal(fixture.batch, fixture.clock.now()));
  CHECK(expires->status.code() == ErrorCode::kDeadlineExceeded);
  CHECK(fixture.batch.members == std::vector<Request*>{stays.get()});
  CHECK(fixture.batch.rows == 1);
  RequestTestPeer::complete(fixture, fixture.batch);
  CHECK(fixture.stats.read().expired == 1);
}

TEST_CASE("a cancelled request completes at once and never joins a batch") {
  Fixture fixture;
  const RequestRef cancelled = fixture.add(1);
  const RequestRef stays = fixture.add(1);
  CHECK(cancelled->cancel());
  CHECK(cancelled->is_done());
  CHECK(cancelled->status.code() == ErrorCode::kCancelled);
  CHECK_FALSE(cancelled->cancel());
  CHECK(fixture.next() == Rows{1});
  CHECK(fixture.batch.members.front() == stays.get());
  run(fixture);
}

TEST_CASE("a request that runs can no longer be cancelled") {
  Fixture fixture;
  const RequestRef request = fixture.add(1);
  fixture.next();
  CHECK(fixture.batcher.seal(fixture.batch, fixture.clock.now()));
  CHECK_FALSE(request->cancel());
  RequestTestPeer::complete(fixture, fixture.batch);
  CHECK(request->status.ok());
}

TEST_CASE("a request without rows runs alone") {
  Fixture fixture;
  const std::vector<RequestRef> requests = {fixture.add(0), fixture.add(1)};
  Rows sizes;
  while (!fixture.next().empty()) {
    sizes.push_back(static_cast<int64_t>(fixture.batch.members.size()));
    run(fixture);
  }
  CHECK(sizes == Rows{1, 1});
}

TEST_CASE("a full queue refuses and takes again once a request has left") {
  Fixture fixture({.queue_capacity = 2});
  const std::vector<RequestRef> requests = {fixture.add(1), fixture.add(1)};
  CHECK(fixture.admission.enter().code() == ErrorCode::kOverloaded);
  CHECK(fixture.admission.outstanding() == 2);
  fixture.next();
  run(fixture);
  CHECK(fixture.add(1));
  fixture.next();
  run(fixture);
}

TEST_CASE("an unbatchable model's requests run alone") {
  Signature signature = rows_by_any();
  signature.is_batchable = false;
  Fixture fixture({}, signature);
  const std::vector<RequestRef> requests = {fixture.add(1), fixture.add(1)};
  CHECK(fixture.next() == Rows{1});
  run(fixture);
  CHECK(fixture.next() == Rows{1});
  run(fixture);
}

}  // namespace pyruntime
