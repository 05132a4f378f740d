#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "schedule/echo_model.h"
#include "serving/registry.h"

namespace pyruntime {

TEST_CASE("the latest version answers unless one is named") {
  Registry registry;
  registry.add(load_echo({}, 2));
  registry.add(load_echo({}, 10));
  std::shared_ptr<ModelVersion> model;
  REQUIRE(registry.find("echo", kLatest, &model).ok());
  CHECK(model->version() == 10);
  REQUIRE(registry.find("echo", 2, &model).ok());
  CHECK(model->version() == 2);
}

TEST_CASE("an unknown model or version is named in the error") {
  Registry registry;
  registry.add(load_echo({}, 2));
  std::shared_ptr<ModelVersion> model;
  Status status = registry.find("other", kLatest, &model);
  CHECK(status.code() == ErrorCode::kModelNotFound);
  CHECK(status.message().find("'other'") != std::string::npos);
  status = registry.find("echo", 7, &model);
  CHECK(status.code() == ErrorCode::kModelNotFound);
  CHECK(status.message() == "model 'echo' has no version 7; loaded: 2");
}

TEST_CASE("a version is loaded once at a time") {
  Registry registry;
  registry.add(load_echo());
  CHECK_THROWS_AS(registry.add(load_echo()), Error);
  registry.remove("echo", 1);
  registry.add(load_echo());
}

TEST_CASE("an exchanged version is served in place of the one that it gives back") {
  Registry registry;
  const auto first = load_echo({}, 3);
  const auto second = load_echo({}, 3);
  CHECK(registry.exchange(first) == nullptr);
  CHECK(registry.exchange(second) == first);
  std::shared_ptr<ModelVersion> model;
  REQUIRE(registry.find("echo", 3, &model).ok());
  CHECK(model == second);
  CHECK(registry.list().size() == 1);
}

TEST_CASE("a removed version lives on for those who hold it") {
  Registry registry;
  registry.add(load_echo());
  std::shared_ptr<ModelVersion> held;
  REQUIRE(registry.find("echo", kLatest, &held).ok());
  registry.remove("echo", kLatest);
  CHECK(registry.list().empty());
  Numbers numbers = rows_of_four(1, 1);
  CHECK(held->infer(ask(*held, numbers)).ok());
}

TEST_CASE("callers find a version at any moment of a swap") {
  Registry registry;
  registry.add(load_echo({}, 1));
  std::atomic<bool> over{false};
  std::atomic<int> missed{0};
  std::thread caller([&] {
    while (!over.load(std::memory_order_relaxed)) {
      std::shared_ptr<ModelVersion> model;
      if (!registry.find("echo", kLatest, &model).ok()) {
        ++missed;
        continue;
      }
      Numbers numbers = rows_of_four(1, model->version());
      const RequestRef request = ask(*model, numbers);
      // The version may be closed between being found and being asked.
      const Status status = model->infer(request);
      if (!status.ok() && status.code() != ErrorCode::kUnavailable) ++missed;
    }
  });
  for (int64_t version = 2; version < 40; ++version) {
    registry.add(load_echo({}, version));
    registry.remove("echo", version - 1)->close();
  }
  over = true;
  caller.join();
  CHECK(missed == 0);
}

}  // namespace pyruntime
