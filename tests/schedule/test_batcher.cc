#include <algorithm>
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
  explicit Fixture(BatchingOptions options = {.max_rows = 32}, Signature model = rows_by_any())
      : signature(std::move(model)),
        admission(options),
        stats(options.max_rows, clock),
        padding(options.padding, signature),
        batcher(options, signature, padding, admission, clock) {}

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
  Padding padding;
  Batcher batcher;
  Batch batch;
  Request* carry = nullptr;
  float value = 0;
};

}  // namespace

// Does to a request what the scheduler does at submission and completion.
struct RequestTestPeer {
  static void queue(Fixture& fixture, Request& request, int64_t rows) {
    REQUIRE(fixture.admission.enter(rows, 0).ok());
    request.stats_ = &fixture.stats;
    request.admission_ = &fixture.admission;
    request.submitted_at_ = fixture.clock.now();
    fixture.batcher.prepare(request, rows);
    fixture.batcher.submit(request, 0);
  }
  static void prepare(Fixture& fixture, Request& request, int64_t rows) {
    fixture.batcher.prepare(request, rows);
  }
  static CostModel& cost(const Request& request) { return request.lane_->bucket().cost; }
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
  fixture.next();
  CHECK(fixture.batcher.seal(fixture.batch, fixture.clock.now()));
  CHECK(fixture.batch.members == std::vector<Request*>{stays.get()});
  CHECK(fixture.batch.rows == 1);
  RequestTestPeer::complete(fixture, fixture.batch);
}

TEST_CASE("others take the places of those who left a batch") {
  Fixture fixture({.max_rows = 2});
  const std::vector<RequestRef> gone = {fixture.add(1), fixture.add(1)};
  const std::vector<RequestRef> stays = {fixture.add(1), fixture.add(1)};
  CHECK(gone[0]->cancel());
  fixture.next();
  CHECK(fixture.batcher.seal(fixture.batch, fixture.clock.now()));
  CHECK(fixture.batcher.collect(fixture.batch, fixture.carry));
  CHECK(fixture.batcher.seal(fixture.batch, fixture.clock.now()));
  CHECK(fixture.batch.members == std::vector<Request*>{gone[1].get(), stays[0].get()});
  CHECK(fixture.batch.rows == 2);
  RequestTestPeer::complete(fixture, fixture.batch);
  fixture.next();
  run(fixture);
}

TEST_CASE("a request that runs is not completed by who cancels it") {
  Fixture fixture;
  const RequestRef request = fixture.add(1);
  fixture.next();
  CHECK(fixture.batcher.seal(fixture.batch, fixture.clock.now()));
  CHECK_FALSE(request->is_unwanted());
  CHECK_FALSE(request->cancel());
  CHECK(request->is_unwanted());
  CHECK_FALSE(request->is_done());
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

TEST_CASE("within a priority the earliest deadline goes first") {
  Fixture fixture({.max_rows = 1});
  const TimePoint now = fixture.clock.now();
  const auto add_due = [&](microseconds in) {
    return fixture.add(1, 2, Priority::kNormal, now + in);
  };
  const RequestRef late = add_due(microseconds(900));
  const RequestRef undated = fixture.add(1);
  const RequestRef early = add_due(microseconds(300));
  const RequestRef high = fixture.add(1, 2, Priority::kHigh);
  const RequestRef middle = add_due(microseconds(600));
  for (const RequestRef& expected : {high, early, middle, late, undated}) {
    fixture.next();
    CHECK(fixture.batch.members.front() == expected.get());
    run(fixture);
  }
  CHECK(fixture.batcher.is_empty());
}

TEST_CASE("a batch does not grow past what its most urgent member can wait for") {
  Fixture fixture({.max_rows = 32});
  const TimePoint now = fixture.clock.now();
  const auto us = [](int n) { return std::chrono::microseconds(n); };
  const RequestRef first = fixture.add(1, 2, Priority::kNormal, now + us(300));
  for (int i = 0; i < 8; ++i) {  // 100 us a row
    RequestTestPeer::cost(*first).record(1, 100'000);
    RequestTestPeer::cost(*first).record(8, 800'000);
  }
  std::vector<RequestRef> others;
  for (int i = 0; i < 6; ++i)
    others.push_back(fixture.add(1, 2, Priority::kNormal, now + us(5000)));
  CHECK(fixture.next() == Rows{1, 1, 1});
  run(fixture);
  CHECK(fixture.next() == Rows{1, 1, 1, 1});  // the others have time
  run(fixture);
}

TEST_CASE("who cannot be in time anyway does not make batches small") {
  Fixture fixture({.max_rows = 32});
  const TimePoint now = fixture.clock.now();
  const RequestRef late = fixture.add(1, 2, Priority::kNormal, now + std::chrono::microseconds(50));
  for (int i = 0; i < 8; ++i) RequestTestPeer::cost(*late).record(1, 100'000);
  std::vector<RequestRef> others;
  for (int i = 0; i < 6; ++i) others.push_back(fixture.add(1));
  CHECK(fixture.next().size() == 7);
  run(fixture);
}

TEST_CASE("a request without a deadline is due a while after it came") {
  Fixture fixture({.max_rows = 1});
  const RequestRef undated = fixture.add(1);
  fixture.clock.advance(Lane::kPatience / 2);
  const RequestRef dated =
      fixture.add(1, 2, Priority::kNormal, fixture.clock.now() + Lane::kPatience);
  for (const RequestRef& expected : {undated, dated}) {
    fixture.next();
    CHECK(fixture.batch.members.front() == expected.get());
    run(fixture);
  }
}

TEST_CASE("a priority that others keep going before leads a batch in the end") {
  Fixture fixture({.max_rows = 1});
  const RequestRef low = fixture.add(1, 2, Priority::kLow);
  RequestRef high = fixture.add(1, 2, Priority::kHigh);
  int batches = 0;
  while (!low->is_done() && batches < 100) {
    high = fixture.add(1, 2, Priority::kHigh);  // there is always another
    fixture.next();
    run(fixture);
    fixture.clock.advance(Lane::kPatience / 10);
    ++batches;
  }
  CHECK(batches > 10);
  CHECK(batches < 15);
  while (!fixture.next().empty()) run(fixture);
}

TEST_CASE("a priority whose turn it was has not been passed over") {
  Fixture fixture({.max_rows = 1});
  const auto add = [&](Priority priority) { return fixture.add(1, 2, priority); };
  std::vector<RequestRef> low = {add(Priority::kLow), add(Priority::kLow), add(Priority::kLow)};
  const RequestRef first = add(Priority::kHigh);
  fixture.next();  // the high one goes before
  run(fixture);
  fixture.next();  // the low one's turn
  run(fixture);
  CHECK(low[0]->is_done());
  fixture.clock.advance(2 * Lane::kPatience);
  const RequestRef second = add(Priority::kHigh);
  fixture.next();
  CHECK(fixture.batch.members.front() == second.get());
  do run(fixture);
  while (!fixture.next().empty());
}

TEST_CASE("a batch stops at the limit that its costs set") {
  Fixture fixture({.max_rows = 0});
  std::vector<RequestRef> requests;
  for (int i = 0; i < 100; ++i) requests.push_back(fixture.add(1));
  CHECK(fixture.next().size() == CostModel::kFirstRows);
  run(fixture);
  CostModel& cost = RequestTestPeer::cost(*requests.back());
  for (int i = 0; i < 200; ++i) {  // a row gets no cheaper beyond 8 of them
    for (int64_t rows = 1; rows <= 32; rows *= 2) cost.record(rows, std::max<int64_t>(8, rows));
  }
  CHECK(fixture.next().size() == 8);
  do run(fixture);
  while (!fixture.next().empty());
}

TEST_CASE("the end of a request is expected after what goes before it") {
  Fixture fixture({.max_rows = 4});
  const TimePoint now = fixture.clock.now();
  const TimePoint some_time = now + std::chrono::seconds(1);
  std::vector<RequestRef> requests = {fixture.add(1, 2, Priority::kNormal, some_time)};
  const auto expected_us = [&](const Request& request) {
    return (fixture.batcher.expected_end(request, now, 1) - now).count() / 1000;
  };
  CHECK(expected_us(*requests[0]) == 0);  // nothing is known yet
  for (int i = 0; i < 10; ++i) {
    RequestTestPeer::cost(*requests[0]).record(1, 10'000);
    RequestTestPeer::cost(*requests[0]).record(4, 40'000);
  }
  for (int i = 0; i < 8; ++i) {
    requests.push_back(fixture.add(1, 2, Priority::kNormal, some_time));
  }
  // Nine wait: two full batches, and a last one with this one in it.
  const RequestRef next = fixture.pool.take();
  next->inputs[0].shape = Shape{1, 2};
  next->deadline = some_time;
  RequestTestPeer::prepare(fixture, *next, 1);
  CHECK(expected_us(*next) == 2 * 40 + 20);
  CHECK((fixture.batcher.expected_end(*next, now, 2) - now).count() / 1000 == 40 + 20);
  next->priority = Priority::kHigh;
  RequestTestPeer::prepare(fixture, *next, 1);
  CHECK(expected_us(*next) == 10);
  while (!fixture.next().empty()) run(fixture);
}

TEST_CASE("a request that would be late is dropped before it runs if others wait") {
  Fixture fixture;
  const TimePoint soon = fixture.clock.now() + microseconds(50);
  const RequestRef late = fixture.add(1, 2, Priority::kNormal, soon);
  RequestTestPeer::cost(*late).record(1, 100'000);
  SUBCASE("alone it runs, and shows what a run costs now") {
    fixture.next();
    run(fixture);
    CHECK(late->status.ok());
  }
  SUBCASE("beside another it makes room") {
    const RequestRef other = fixture.add(1, 3);
    while (!fixture.next().empty()) run(fixture);
    CHECK(late->status.code() == ErrorCode::kDeadlineExceeded);
    CHECK(late->status.message() ==
          "the deadline would have passed during the run: 50 us left after 0 us in the queue, "
          "100 us expected");
    CHECK(other->status.ok());
  }
}

TEST_CASE("who has waited longer than the queue's timeout is given up when the turn comes") {
  Fixture fixture({.queue_timeout = microseconds(50)});
  const RequestRef first = fixture.add(1);
  fixture.clock.advance(microseconds(30));
  const RequestRef second = fixture.add(1);
  fixture.clock.advance(microseconds(21));
  CHECK(fixture.next() == Rows{1, 1});
  run(fixture);
  CHECK(first->status.code() == ErrorCode::kDeadlineExceeded);
  CHECK(first->status.message() ==
        "waited 51 us in the queue, longer than the model allows: 50 us "
        "(batching.queue_timeout_us)");
  CHECK(second->status.ok());
}

TEST_CASE("a batch does not wait for company until its oldest times out in the queue") {
  Fixture fixture({.max_delay = microseconds(1000), .queue_timeout = microseconds(50)});
  const RequestRef request = fixture.add(1);
  fixture.next();
  CHECK(fixture.batcher.due_at(fixture.batch) == fixture.clock.now() + microseconds(25));
  run(fixture);
  CHECK(request->status.ok());
}

TEST_CASE("a full queue refuses and takes again once a request has left") {
  Fixture fixture({.max_rows = 32, .queue_capacity = 2});
  const std::vector<RequestRef> requests = {fixture.add(1), fixture.add(1)};
  CHECK(fixture.admission.enter(1, 0).code() == ErrorCode::kOverloaded);
  CHECK(fixture.admission.outstanding() == 2);
  fixture.next();
  run(fixture);
  CHECK(fixture.add(1));
  fixture.next();
  run(fixture);
}

TEST_CASE("waiting rows and bytes are limited, but for one alone") {
  Admission admission({.queue_rows = 8, .queue_bytes = 100});
  CHECK(admission.enter(20, 10).ok());
  CHECK(admission.enter(1, 10).message() ==
        "the queue is full: with 1 more rows, over 8 would wait (queue_rows)");
  admission.leave_queue(1, 20, 10);
  CHECK(admission.enter(4, 90).ok());
  CHECK(admission.enter(4, 11).message() ==
        "the queue is full: with 11 more bytes, over 100 would wait (queue_bytes)");
  CHECK(admission.enter(4, 10).ok());
  CHECK(admission.enter(1, 0).code() == ErrorCode::kOverloaded);
  CHECK(admission.accepted() == 3);
  CHECK(admission.outstanding() == 3);
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
