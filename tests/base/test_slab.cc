#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "base/interleaving.h"
#include "base/slab.h"

using pyruntime::Slab;

namespace {

struct Thing {
  int uses = 0;  // not atomic: whoever has borrowed it owns it
  std::atomic<int> owners{0};
};

}  // namespace

TEST_CASE("an object that was given back is lent out again before another is made") {
  Slab<Thing> slab([] { return std::make_unique<Thing>(); });
  const auto first = slab.take();
  const auto second = slab.take();
  CHECK(first.object != second.object);
  CHECK(slab.size() == 2);
  slab.give(first.index);
  CHECK(slab.take().object == first.object);
  CHECK(slab.size() == 2);
  CHECK(&slab.at(second.index) == second.object);
}

TEST_CASE("a slab grows past one chunk and keeps objects where they are") {
  Slab<Thing> slab([] { return std::make_unique<Thing>(); });
  std::vector<Slab<Thing>::Lent> lent;
  std::set<Thing*> distinct;
  for (int i = 0; i < 200; ++i) {
    lent.push_back(slab.take());
    distinct.insert(lent.back().object);
  }
  CHECK(distinct.size() == 200);
  for (const auto& [object, index] : lent) CHECK(&slab.at(index) == object);
  for (const auto& [object, index] : lent) slab.give(index);
  for (int i = 0; i < 200; ++i) CHECK(distinct.count(slab.take().object) == 1);
  CHECK(slab.size() == 200);
}

TEST_CASE("a maker that throws leaves the slab as it was") {
  bool is_broken = true;
  Slab<Thing> slab([&] {
    if (is_broken) throw std::runtime_error("broken");
    return std::make_unique<Thing>();
  });
  CHECK_THROWS_AS(slab.take(), std::runtime_error);
  CHECK(slab.size() == 0);
  is_broken = false;
  CHECK(slab.take().index == 0);
}

TEST_CASE("no object is ever lent to two threads at once") {
  // Long enough that threads are preempted between reading a link and using it.
  constexpr auto kLong = std::chrono::milliseconds(400);
  constexpr unsigned kThreads = 4;
  std::atomic<int> made{0};
  Slab<Thing> slab([&] {
    ++made;
    return std::make_unique<Thing>();
  });
  std::atomic<bool> is_shared{false};
  std::atomic<int> taken{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const auto end = std::chrono::steady_clock::now() + kLong;
      for (int round = 0; std::chrono::steady_clock::now() < end; ++round) {
        // Two at a time, given back in either order: what ABA needs.
        const auto a = slab.take();
        const auto b = slab.take();
        for (const auto& lent : {a, b}) {
          if (lent.object->owners.fetch_add(1) != 0) is_shared = true;
          ++lent.object->uses;
        }
        for (const auto& lent : {a, b}) lent.object->owners.fetch_sub(1);
        slab.give(round % 2 == 0 ? a.index : b.index);
        slab.give(round % 2 == 0 ? b.index : a.index);
        taken.fetch_add(2, std::memory_order_relaxed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(is_shared);
  CHECK(slab.size() <= 2 * kThreads);
  CHECK(made == static_cast<int>(slab.size()));
  int uses = 0;
  for (uint32_t i = 0; i < slab.size(); ++i) uses += slab.at(i).uses;
  CHECK(uses == taken);
}
