#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include "schedule/active_runs.h"
#include "schedule/request_pool.h"
#include "schedule/watchdog.h"

namespace pyruntime {
namespace {

using namespace std::chrono_literals;

// What is written to stderr meanwhile.
class Stderr {
 public:
  Stderr() : file_(std::tmpfile()), own_(dup(STDERR_FILENO)) {
    REQUIRE(file_ != nullptr);
    std::fflush(stderr);
    dup2(fileno(file_), STDERR_FILENO);
  }
  ~Stderr() {
    dup2(own_, STDERR_FILENO);
    close(own_);
    std::fclose(file_);
  }
  Stderr(const Stderr&) = delete;
  Stderr& operator=(const Stderr&) = delete;

  std::string text() const {
    std::string text(4096, '\0');
    const ssize_t size = pread(fileno(file_), text.data(), text.size(), 0);
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
  }

 private:
  std::FILE* const file_;
  const int own_;
};

struct Fixture {
  RequestPool pool{1, 1};
  RequestRef request = pool.take();
  std::vector<Request*> members{request.get()};
};

}  // namespace

TEST_CASE("the watchdog reports a run that does not come back, once") {
  Fixture fixture;
  const Stderr output;
  ActiveRuns runs(SteadyClock::instance());
  runs.watch("model 'm' version 1", 10ms);
  ActiveRun run(runs, "instance 0 on cpu", std::make_unique<RunControl>());
  std::this_thread::sleep_for(20ms);  // the watchdog sleeps
  const std::string expected =
      "pyruntime: model 'm' version 1: instance 0 on cpu: a run has not completed within 0.01 s\n";
  for (int i = 0; i < 2; ++i) {
    REQUIRE(run.begin(fixture.members, SteadyClock::instance().now()));
    std::string twice = i == 0 ? expected : expected + expected;
    for (int turns = 0; turns < 5000 && output.text() != twice; ++turns) {
      std::this_thread::sleep_for(1ms);
    }
    CHECK(output.text() == twice);
    std::this_thread::sleep_for(30ms);
    CHECK(output.text() == twice);
    CHECK(runs.overdue().count == 1);
    run.end();
    CHECK(runs.overdue().count == 0);
  }
}

TEST_CASE("a run that ends in time is not reported") {
  Fixture fixture;
  const Stderr output;
  ActiveRuns runs(SteadyClock::instance());
  runs.watch("m", 5s);
  ActiveRun run(runs, "instance 0 on cpu", std::make_unique<RunControl>());
  for (int i = 0; i < 100; ++i) {
    REQUIRE(run.begin(fixture.members, SteadyClock::instance().now()));
    run.end();
  }
  CHECK(output.text().empty());
}

TEST_CASE("models come and go beside each other") {
  Fixture fixture;
  for (int i = 0; i < 50; ++i) {
    ActiveRuns first(SteadyClock::instance());
    first.watch("first", 1s);
    ActiveRuns second(SteadyClock::instance());
    if (i % 2 == 0) second.watch("second", 2s);
    ActiveRun run(second, "instance 0 on cpu", std::make_unique<RunControl>());
    REQUIRE(run.begin(fixture.members, SteadyClock::instance().now()));
    run.end();
  }
}

TEST_CASE("without a limit nothing is overdue") {
  Fixture fixture;
  ManualClock clock;
  ActiveRuns runs(clock);
  ActiveRun run(runs, "instance 0 on cpu", std::make_unique<RunControl>());
  REQUIRE(run.begin(fixture.members, clock.now()));
  clock.advance(std::chrono::hours(1000));
  CHECK(runs.overdue().count == 0);
  run.end();
}

TEST_CASE("a run that waits behind another is overdue only by its own time") {
  Fixture fixture;
  ManualClock clock;
  ActiveRuns runs(clock);
  runs.watch("m", 1h);
  ActiveRun run(runs, "instance 0 on cpu", std::make_unique<RunControl>());
  REQUIRE(run.begin(fixture.members, kNever));
  clock.advance(2h);
  CHECK(runs.overdue().count == 0);
  run.renew(clock.now());
  const TimePoint renewed = clock.now();
  clock.advance(59min);
  CHECK(runs.overdue().count == 0);
  clock.advance(1min);
  CHECK(runs.overdue().count == 1);
  CHECK(runs.overdue().oldest == renewed);
  run.end();
}

}  // namespace pyruntime
