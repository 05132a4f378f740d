#include <cstdint>
#include <functional>

#include <doctest/doctest.h>

#include "schedule/cost_model.h"

namespace pyruntime {
namespace {

// Batches of all sizes up to the limit of the moment, again and again.
void run(CostModel& cost, const std::function<int64_t(int64_t)>& ns_of) {
  for (int i = 0; i < 400; ++i) {
    for (int64_t rows = 1; rows <= cost.limit(); rows *= 2) cost.record(rows, ns_of(rows));
  }
}

}  // namespace

TEST_CASE("nothing is predicted before anything has run") {
  const CostModel cost(8);
  CHECK(cost.predict(4).count() == 0);
  CHECK(cost.points().empty());
  CHECK(cost.limit() == 8);
}

TEST_CASE("between known sizes time is interpolated, beyond them it grows with the rows") {
  CostModel cost(64);
  for (int i = 0; i < 100; ++i) {
    cost.record(4, 4000);
    cost.record(16, 10'000);
  }
  CHECK(cost.predict(1).count() == 4000);
  CHECK(cost.predict(4).count() == 4000);
  CHECK(cost.predict(10).count() == 7000);
  CHECK(cost.predict(16).count() == 10'000);
  CHECK(cost.predict(32).count() == 20'000);
  REQUIRE(cost.points().size() == 2);
  CHECK(cost.points()[0].rows == doctest::Approx(4));
  CHECK(cost.points()[1].count == 100);
}

TEST_CASE("a cold first run and an interrupted one do not count for long") {
  CostModel cost(8);
  cost.record(1, 1'000'000);
  cost.record(1, 1000);
  CHECK(cost.predict(1).count() == 1000);
  cost.record(1, 1'000'000'000);
  CHECK(cost.predict(1).count() == 1125);
  for (int i = 0; i < 50; ++i) cost.record(1, 1000);
  CHECK(cost.predict(1).count() < 1010);
}

TEST_CASE("costs are kept current") {
  CostModel cost(8);
  for (int i = 0; i < 100; ++i) cost.record(8, 1000);
  for (int i = 0; i < 100; ++i) cost.record(8, 5000);
  CHECK(cost.predict(8).count() > 4500);
}

TEST_CASE("the limit is where a row gets no cheaper") {
  CostModel cost(0);
  CHECK(cost.limit() == CostModel::kFirstRows);
  SUBCASE("a fixed cost beside one for each row") {
    run(cost, [](int64_t rows) { return 10'000 + 1000 * rows; });
    CHECK(cost.limit() == 128);  // 1078 ns a row, and 1039 with 256
  }
  SUBCASE("a row costs the same in any company") {
    run(cost, [](int64_t rows) { return 30'000'000 * rows; });
    CHECK(cost.limit() == 1);
  }
  SUBCASE("rows get dearer beyond eight") {
    run(cost, [](int64_t rows) { return rows <= 8 ? 8000 : 1500 * rows; });
    CHECK(cost.limit() == 8);
  }
  SUBCASE("rows are free") {
    run(cost, [](int64_t) { return 50'000; });
    CHECK(cost.limit() == CostModel::kMostRows);
  }
}

TEST_CASE("a larger size that has become cheap is found again") {
  CostModel cost(0);
  run(cost, [](int64_t rows) { return 10'000 + (rows >= 16 ? 3000 : 1000) * rows; });
  CHECK(cost.limit() == 8);
  // Whatever made it slow is gone.
  for (int i = 0; i < 20; ++i) run(cost, [](int64_t rows) { return 10'000 + 1000 * rows; });
  CHECK(cost.limit() >= 64);
}

TEST_CASE("a limit that was given stays") {
  CostModel cost(16);
  run(cost, [](int64_t rows) { return 1000 * rows; });
  CHECK(cost.limit() == 16);
}

}  // namespace pyruntime
