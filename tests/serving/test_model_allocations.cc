#include <vector>

#include <doctest/doctest.h>

#include "memory/counting_new.h"
#include "schedule/echo_model.h"

namespace pyruntime {

TEST_CASE("a blocking call allocates nothing in the steady state") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 3);
  const auto infer = [&] {
    const RequestRef request = ask(*model, numbers);
    REQUIRE(model->infer(request).ok());
  };
  for (int i = 0; i < 100; ++i) infer();
  const uint64_t from_system = model->pool_stats().system_allocations;
  CHECK(test::comes_to_allocate_nothing([&] {
    for (int i = 0; i < 1000; ++i) infer();
  }));
  CHECK(model->pool_stats().system_allocations == from_system);
}

TEST_CASE("requests in flight allocate nothing in the steady state") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 3);
  std::vector<RequestRef> requests(64);
  const auto round = [&] {
    for (RequestRef& request : requests) {
      request = ask(*model, numbers);
      REQUIRE(model->submit(request).ok());
    }
    for (RequestRef& request : requests) {
      request->wait();
      REQUIRE(request->status.ok());
      request.reset();
    }
  };
  // Each number of rows is bound once, when it first occurs.
  for (int64_t rows = 1; rows <= 64; ++rows) {
    Numbers many = rows_of_four(rows, 0);
    REQUIRE(model->infer(ask(*model, many)).ok());
  }
  for (int i = 0; i < 50; ++i) round();
  CHECK(test::comes_to_allocate_nothing([&] {
    for (int i = 0; i < 50; ++i) round();
  }));
}

}  // namespace pyruntime
