#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/background.h"

namespace pyruntime {

int niceness() { return getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid))); }

TEST_CASE("work in the background has low priority and leaves the caller's alone") {
  const int before = niceness();
  int within = 0;
  run_in_background([&](ThreadMaker&) { within = niceness(); });
  CHECK(within == 19);
  CHECK(niceness() == before);
}

TEST_CASE("what work in the background throws reaches the caller") {
  CHECK_THROWS_AS(run_in_background([](ThreadMaker&) { throw std::runtime_error("x"); }),
                  std::runtime_error);
}

TEST_CASE("threads that are to stay have the caller's priority, though the work asks for them") {
  const int before = niceness();
  int own = 0;
  int lent[2] = {};
  run_in_background([&](ThreadMaker& maker) {
    std::thread mine([&] { own = niceness(); });
    std::thread first = maker.make([&] { lent[0] = niceness(); });
    std::thread second = maker.make([&] { lent[1] = niceness(); });
    for (std::thread* thread : {&mine, &first, &second}) thread->join();
  });
  CHECK(own == 19);
  CHECK(lent[0] == before);
  CHECK(lent[1] == before);
}

TEST_CASE("several threads of the work may ask at once") {
  std::atomic<int> count{0};
  run_in_background([&](ThreadMaker& maker) {
    std::vector<std::thread> asking;
    for (int i = 0; i < 4; ++i) {
      asking.emplace_back([&] {
        for (int j = 0; j < 20; ++j) maker.make([&] { ++count; }).join();
      });
    }
    for (std::thread& thread : asking) thread.join();
  });
  CHECK(count == 80);
}

}  // namespace pyruntime
