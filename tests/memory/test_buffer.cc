#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "memory/buffer.h"
#include "memory/counting_new.h"

using namespace pyruntime;

namespace {

void count(void* context) { ++*static_cast<std::atomic<int>*>(context); }

}  // namespace

TEST_CASE("an empty buffer has nothing") {
  const Buffer buffer;
  CHECK_FALSE(buffer);
  CHECK(buffer.data() == nullptr);
  CHECK(buffer.size_bytes() == 0);
  CHECK(buffer.use_count() == 0);
}

TEST_CASE("wrapped memory is released once, with its last reference") {
  std::atomic<int> releases{0};
  char memory[16];
  Buffer buffer = Buffer::wrap(memory, 16, {DeviceKind::kSimulated, 1}, count, &releases);
  CHECK(buffer.data() == reinterpret_cast<std::byte*>(memory));
  CHECK(buffer.size_bytes() == 16);
  CHECK(buffer.device() == Device{DeviceKind::kSimulated, 1});
  {
    Buffer copy = buffer;
    CHECK(buffer.use_count() == 2);
    Buffer moved = std::move(copy);
    CHECK(buffer.use_count() == 2);
    buffer = moved;
    CHECK(buffer.use_count() == 2);
  }
  CHECK(releases == 0);
  BufferBlock* const detached = buffer.detach();
  CHECK_FALSE(buffer);
  CHECK(releases == 0);
  buffer = Buffer::adopt(detached);
  buffer.reset();
  CHECK(releases == 1);
  buffer.reset();
  CHECK(releases == 1);
}

TEST_CASE("wrapped memory may have nothing to release") {
  char memory[1];
  CHECK(Buffer::wrap(memory, 1, {}, nullptr, nullptr));
}

TEST_CASE("a release may wrap again") {
  static char memory[1];
  static std::atomic<int> releases{0};
  Buffer::wrap(
      memory, 1, {},
      [](void*) { const Buffer inner = Buffer::wrap(memory, 1, {}, count, &releases); }, nullptr);
  CHECK(releases == 1);
}

TEST_CASE("wrapping allocates nothing in the steady state") {
  std::atomic<int> releases{0};
  char memory[1];
  Buffer::wrap(memory, 1, {}, count, &releases);
  const uint64_t before = test::news;
  for (int i = 0; i < 1000; ++i) {
    const Buffer a = Buffer::wrap(memory, 1, {}, count, &releases);
    const Buffer b = a;  // NOLINT(performance-unnecessary-copy-initialization)
  }
  CHECK(test::news == before);
  CHECK(releases == 1001);
}

TEST_CASE("references dropped on many threads release once, after all use") {
  constexpr int kThreads = 4;
  for (int round = 0; round < 300; ++round) {
    struct Owner {
      int uses[kThreads] = {};  // not atomic: the release must see them all
      int sum = -1;
    } owner;
    Buffer buffer = Buffer::wrap(
        &owner, sizeof owner, {},
        [](void* context) {
          auto& released = *static_cast<Owner*>(context);
          released.sum = 0;
          for (const int uses : released.uses) released.sum += uses;
        },
        &owner);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([t, copy = buffer]() mutable {
        ++reinterpret_cast<Owner*>(copy.data())->uses[t];
        const Buffer another = copy;
        copy.reset();
      });
    }
    buffer.reset();
    for (std::thread& thread : threads) thread.join();
    REQUIRE(owner.sum == kThreads);
  }
}
