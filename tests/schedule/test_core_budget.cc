#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "schedule/core_budget.h"

namespace pyruntime {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr CoreBudget::Time kNow{std::chrono::hours(1)};

}  // namespace

TEST_CASE("a thread spins while fewer run or spin than there are cores") {
  CoreBudget budget(2);
  budget.begin_run();
  CHECK(budget.try_begin_spin(kNow));
  CHECK_FALSE(budget.try_begin_spin(kNow));
  budget.end_run();
  CHECK(budget.try_begin_spin(kNow));
}

TEST_CASE("nobody spins for a while after a spinner has lost its core") {
  CoreBudget budget(2);
  CHECK(budget.had_core(kNow, kNow + microseconds(2)));
  CHECK(budget.try_begin_spin(kNow + microseconds(2)));
  budget.end_run();
  const CoreBudget::Time back = kNow + milliseconds(3);
  CHECK_FALSE(budget.had_core(kNow, back));
  CHECK_FALSE(budget.try_begin_spin(back));
  CHECK_FALSE(budget.try_begin_spin(back + CoreBudget::kCrowdedFor - microseconds(1)));
  CHECK(budget.try_begin_spin(back + CoreBudget::kCrowdedFor));
}

TEST_CASE("spinning ends when it is found, when the time is up, and when the core is lost") {
  CoreBudget budget(2);
  int looks = 0;
  CHECK(spin_until(budget, [&] { return ++looks == 5; }));
  CHECK(looks == 5);
  CHECK_FALSE(spin_until(budget, [] { return false; }));
  CoreBudget other(2);
  looks = 0;
  CHECK_FALSE(spin_until(other, [&] {
    ++looks;
    if (looks == 2) std::this_thread::sleep_for(milliseconds(1));
    return false;
  }));
  CHECK(looks <= 17);  // one round of looks
  CHECK_FALSE(other.try_begin_spin(std::chrono::steady_clock::now()));
}

}  // namespace pyruntime
