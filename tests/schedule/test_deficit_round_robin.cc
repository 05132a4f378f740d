#include <algorithm>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include "schedule/deficit_round_robin.h"

namespace pyruntime {
namespace {

constexpr int64_t kQuantum = 1000;

// Who always waits, with turns of this cost, and the time that it has had.
struct Flood {
  explicit Flood(int64_t cost) {
    member.cost_ns = cost;
    member.waiting = 1;
  }
  DeficitRoundRobin::Member member;
  int64_t served_ns = 0;
};

void serve(DeficitRoundRobin& robin, std::vector<Flood*> floods, int turns) {
  for (int i = 0; i < turns; ++i) {
    auto* const chosen = robin.choose();
    REQUIRE(chosen != nullptr);
    for (Flood* flood : floods) {
      if (&flood->member != chosen) continue;
      flood->served_ns += chosen->cost_ns;
      ++chosen->waiting;
    }
  }
}

}  // namespace

TEST_CASE("nobody waits, nobody is chosen") {
  DeficitRoundRobin robin(kQuantum);
  CHECK(robin.choose() == nullptr);
  DeficitRoundRobin::Member member;
  robin.add(member);
  CHECK(robin.choose() == nullptr);
}

TEST_CASE("equal turns alternate") {
  DeficitRoundRobin robin(kQuantum);
  Flood a(500);
  Flood b(500);
  robin.add(a.member);
  robin.add(b.member);
  serve(robin, {&a, &b}, 10);
  CHECK(a.served_ns == 2500);
  CHECK(b.served_ns == 2500);
}

TEST_CASE("turns of unequal cost add up to equal time") {
  DeficitRoundRobin robin(kQuantum);
  Flood small(300);
  Flood middle(2500);
  Flood large(70000);
  for (Flood* flood : {&small, &middle, &large}) robin.add(flood->member);
  serve(robin, {&small, &middle, &large}, 5000);
  const auto [least, most] = std::minmax({small.served_ns, middle.served_ns, large.served_ns});
  CHECK(most - least <= 70000 + kQuantum);  // nobody is ahead by more than the longest turn
}

TEST_CASE("a large turn does not wait for ever behind small ones") {
  DeficitRoundRobin robin(kQuantum);
  Flood small(100);
  Flood large(5000);
  robin.add(small.member);
  robin.add(large.member);
  int before_large = 0;
  while (large.served_ns == 0) {
    serve(robin, {&small, &large}, 1);
    REQUIRE(++before_large < 100);
  }
  CHECK(before_large <= 51);
}

TEST_CASE("who takes longer than predicted waits longer afterwards") {
  DeficitRoundRobin robin(kQuantum);
  Flood honest(1000);
  Flood late(1000);
  robin.add(honest.member);
  robin.add(late.member);
  int honest_turns = 0;
  for (int i = 0; i < 400; ++i) {
    auto* const chosen = robin.choose();
    ++chosen->waiting;
    if (chosen == &honest.member) ++honest_turns;
    if (chosen == &late.member) robin.charge(late.member, 2000);  // it took three times as long
  }
  CHECK(honest_turns >= 295);
  CHECK(honest_turns <= 305);
}

TEST_CASE("who does not wait saves nothing") {
  DeficitRoundRobin robin(kQuantum);
  Flood busy(1000);
  DeficitRoundRobin::Member idle;
  idle.cost_ns = 1000;
  robin.add(busy.member);
  robin.add(idle);
  serve(robin, {&busy}, 100);
  idle.waiting = 1;
  CHECK(idle.saved_ns == 0);
  serve(robin, {&busy}, 2);
  CHECK(idle.waiting == 0);  // one turn as the other's, not a hundred
  CHECK(idle.saved_ns < kQuantum);
}

}  // namespace pyruntime
