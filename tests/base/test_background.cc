#include <stdexcept>

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
  run_in_background([&] { within = niceness(); });
  CHECK(within == 19);
  CHECK(niceness() == before);
}

TEST_CASE("what work in the background throws reaches the caller") {
  CHECK_THROWS_AS(run_in_background([] { throw std::runtime_error("x"); }), std::runtime_error);
}

}  // namespace pyruntime
