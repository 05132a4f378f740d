#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/interleaving.h"
#include "memory/buffer_pool.h"
#include "memory/counting_new.h"
#include "memory/device.h"
#include "memory/faulty_devices.h"
#include "memory/present_backends.h"

using namespace pyruntime;
using pyruntime::test::FaultyDevice;
using pyruntime::test::for_each_device;
using pyruntime::test::for_each_faulty_device;
using pyruntime::test::RandomYield;
using Placement = BufferPool::Placement;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

DeviceBackend& cpu() { return open_device({}); }

BufferPool::Options capacity(std::size_t bytes) { return {.capacity_bytes = bytes}; }

// kB of a line of /proc/self/status.
std::size_t own_status_kb(const char* name) {
  std::size_t kb = 0;
  FILE* status = std::fopen("/proc/self/status", "r");
  char line[256];
  while (std::fgets(line, sizeof line, status) != nullptr) {
    if (std::strncmp(line, name, std::strlen(name)) == 0) {
      kb = std::strtoul(line + std::strlen(name) + 1, nullptr, 10);
    }
  }
  std::fclose(status);
  return kb;
}

}  // namespace

TEST_CASE("a pool gives aligned memory of at least the size asked for, on every device") {
  for_each_device([](DeviceBackend& backend) {
    for (const Placement placement : {Placement::kHost, Placement::kDevice}) {
      BufferPool pool(backend, {.placement = placement});
      CHECK(pool.device() == backend.device());
      for (const std::size_t size_bytes : {0, 1, 64, 65, 1000, 16'384, 16'385, 3'000'000}) {
        CAPTURE(size_bytes);
        Status status;
        const Buffer buffer = pool.allocate(size_bytes, &status);
        REQUIRE(buffer);
        CHECK(status.ok());
        CHECK(buffer.device() == backend.device());
        CHECK(buffer.size_bytes() >= size_bytes);
        CHECK(buffer.use_count() == 1);
        CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 64 == 0);
        if (placement == Placement::kHost || backend.is_host_accessible()) {
          std::memset(buffer.data(), 1, buffer.size_bytes());
        }
      }
    }
  });
}

TEST_CASE("buffers that are lent out at once do not overlap") {
  BufferPool pool(cpu(), {});
  std::vector<Buffer> buffers;
  for (std::size_t size_bytes = 1; size_bytes < 100'000; size_bytes += size_bytes / 7 + 1) {
    for (int i = 0; i < 5; ++i) buffers.push_back(pool.allocate(size_bytes, nullptr));
  }
  std::sort(buffers.begin(), buffers.end(),
            [](const Buffer& a, const Buffer& b) { return a.data() < b.data(); });
  for (std::size_t i = 1; i < buffers.size(); ++i) {
    REQUIRE(buffers[i - 1].data() + buffers[i - 1].size_bytes() <= buffers[i].data());
  }
}

TEST_CASE("a buffer that was given back is lent out again") {
  BufferPool pool(cpu(), {});
  for (const std::size_t size_bytes : {std::size_t{100}, std::size_t{50'000}, 4 * kMiB}) {
    const std::byte* const first = pool.allocate(size_bytes, nullptr).data();
    const uint64_t from_system = pool.stats().system_allocations;
    for (int i = 0; i < 10; ++i) CHECK(pool.allocate(size_bytes, nullptr).data() == first);
    CHECK(pool.stats().system_allocations == from_system);
  }
}

TEST_CASE("the steady state takes nothing from the system and nothing from operator new") {
  BufferPool pool(cpu(), {});
  const auto use = [&] {
    const Buffer small = pool.allocate(100, nullptr);
    const Buffer another = pool.allocate(100, nullptr);
    const Buffer large = pool.allocate(3 * kMiB, nullptr);
    const Buffer shared = large;  // NOLINT(performance-unnecessary-copy-initialization)
  };
  use();
  const uint64_t from_system = pool.stats().system_allocations;
  const uint64_t news = test::news;
  for (int i = 0; i < 1000; ++i) use();
  CHECK(test::news == news);
  CHECK(pool.stats().system_allocations == from_system);
  CHECK(pool.stats().allocations == 3003);
}

TEST_CASE("a pool refuses above its cap, says so and counts it") {
  BufferPool pool(cpu(), capacity(kMiB));
  Status status;
  std::vector<Buffer> buffers;
  for (int i = 0; i < 4; ++i) {
    buffers.push_back(pool.allocate(kMiB / 4, &status));
    REQUIRE(buffers.back());
  }
  CHECK_FALSE(pool.allocate(1, &status));
  CHECK(status.code() == ErrorCode::kOverloaded);
  CHECK(status.message() ==
        "buffer pool on 'cpu': no 1 bytes left: 1048576 in use, 1048576 held, capacity 1048576 "
        "bytes");
  CHECK_FALSE(pool.allocate(std::size_t{1} << 62, &status));
  CHECK_FALSE(pool.allocate(SIZE_MAX, nullptr));
  CHECK(pool.stats().exhaustions == 3);
  buffers.pop_back();
  CHECK(pool.allocate(kMiB / 4, nullptr));
}

TEST_CASE("a tiny pool works to its last block") {
  BufferPool pool(cpu(), capacity(200));
  const Buffer first = pool.allocate(64, nullptr);
  const Buffer second = pool.allocate(64, nullptr);
  Buffer third = pool.allocate(64, nullptr);
  CHECK(first);
  CHECK(second);
  CHECK(third);
  CHECK_FALSE(pool.allocate(64, nullptr));
  third.reset();
  CHECK(pool.allocate(1, nullptr));
  BufferPool none(cpu(), capacity(0));
  CHECK_FALSE(none.allocate(0, nullptr));
}

TEST_CASE("free blocks of other sizes make room before a pool refuses") {
  BufferPool pool(cpu(), capacity(kMiB));
  {
    const Buffer large = pool.allocate(kMiB, nullptr);
  }
  CHECK(pool.stats().held_bytes == kMiB);
  const Buffer small = pool.allocate(100, nullptr);
  CHECK(small);
  CHECK(pool.stats().exhaustions == 0);
}

TEST_CASE("statistics say what is held, used and counted") {
  BufferPool pool(cpu(), {});
  CHECK(pool.stats().held_bytes == 0);
  Buffer first = pool.allocate(100, nullptr);
  Buffer second = pool.allocate(2 * kMiB, nullptr);
  BufferPool::Stats stats = pool.stats();
  CHECK(stats.used_bytes == 128 + 2 * kMiB);
  CHECK(stats.peak_used_bytes == stats.used_bytes);
  CHECK(stats.held_bytes >= stats.used_bytes);
  CHECK(stats.allocations == 2);
  CHECK(stats.system_allocations == 2);
  first.reset();
  second.reset();
  stats = pool.stats();
  CHECK(stats.used_bytes == 0);
  CHECK(stats.peak_used_bytes == 128 + 2 * kMiB);
  CHECK(stats.held_bytes >= 2 * kMiB);
}

TEST_CASE("trimming gives back what is free and nothing else") {
  BufferPool pool(cpu(), {});
  Buffer kept = pool.allocate(100, nullptr);
  std::memset(kept.data(), 7, kept.size_bytes());
  {
    const Buffer neighbour = pool.allocate(100, nullptr);
  }
  {
    const Buffer large = pool.allocate(2 * kMiB, nullptr);
  }
  {
    const Buffer other = pool.allocate(1000, nullptr);
  }
  const std::size_t held = pool.stats().held_bytes;
  const std::size_t freed = pool.trim();
  CHECK(freed > 2 * kMiB);
  CHECK(pool.stats().held_bytes == held - freed);
  CHECK(pool.stats().held_bytes >= kept.size_bytes());
  CHECK(pool.stats().allocations == 4);
  CHECK(kept.data()[99] == std::byte{7});
  CHECK(pool.allocate(100, nullptr));
  CHECK(pool.allocate(2 * kMiB, nullptr));
  kept.reset();
  pool.trim();
  CHECK(pool.stats().held_bytes == 0);
  CHECK(pool.trim() == 0);
  CHECK(pool.stats().allocations == 6);
}

TEST_CASE("a trimmed pool has given its memory back to the device") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    DeviceBackend& backend = open_device(faulty.device);
    const uint64_t before = faulty.used_bytes();
    BufferPool pool(backend, {.placement = Placement::kDevice});
    {
      const Buffer buffer = pool.allocate(kMiB, nullptr);
    }
    CHECK(faulty.used_bytes() == before + kMiB);
    pool.trim();
    CHECK(faulty.used_bytes() == before);
  });
}

TEST_CASE("a buffer may outlive its pool") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t before = faulty.used_bytes();
    DeviceBackend& backend = open_device(faulty.device);
    auto pool =
        std::make_unique<BufferPool>(backend, BufferPool::Options{.placement = Placement::kDevice});
    auto host_pool = std::make_unique<BufferPool>(cpu(), BufferPool::Options{});
    Buffer small = pool->allocate(100, nullptr);
    Buffer large = pool->allocate(kMiB, nullptr);
    Buffer host = host_pool->allocate(100, nullptr);
    {
      const Buffer free = pool->allocate(4 * kMiB, nullptr);
    }
    pool.reset();
    host_pool.reset();
    CHECK(faulty.used_bytes() > before);
    CHECK(faulty.used_bytes() < before + 4 * kMiB);
    std::memset(host.data(), 1, host.size_bytes());
    host.reset();
    small.reset();
    CHECK(faulty.used_bytes() > before);
    large.reset();
    CHECK(faulty.used_bytes() == before);
  });
}

TEST_CASE("pages are locked on request, and unlocked when given back") {
  const std::size_t before_kb = own_status_kb("VmLck:");
  BufferPool pool(cpu(), {.lock_pages = true});
  Status status;
  Buffer buffer = pool.allocate(20'000, &status);
  if (!buffer) {
    CHECK(status.code() == ErrorCode::kOverloaded);
    MESSAGE("skipped: ", status.message());
    return;
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they make mlock do nothing
  CHECK(own_status_kb("VmLck:") >= before_kb + 20);
#endif
  buffer.reset();
  pool.trim();
  CHECK(own_status_kb("VmLck:") == before_kb);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("pages that cannot be locked are an error that leaves nothing behind") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // Without the privilege that lifts the limit.
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0) _exit(10);
    if (geteuid() == 0 && setuid(65534) != 0) _exit(11);
    BufferPool pool(cpu(), {.lock_pages = true});
    Status status;
    if (pool.allocate(100'000, &status)) _exit(12);
    if (status.code() != ErrorCode::kOverloaded) _exit(13);
    if (status.message().find("buffer pool on 'cpu': mlock of ") != 0) _exit(14);
    if (pool.stats().held_bytes != 0 || pool.stats().used_bytes != 0) _exit(15);
    _exit(0);
  }
  int state = 0;
  REQUIRE(waitpid(child, &state, 0) == child);
  REQUIRE(WIFEXITED(state));
  CHECK(WEXITSTATUS(state) == 0);
}
#endif

TEST_CASE("pages that the host cannot reach are not locked") {
  CHECK_THROWS_WITH_AS(
      BufferPool(open_device({DeviceKind::kSimulated, 0}),
                 {.placement = Placement::kDevice, .lock_pages = true}),
      "buffer pool on 'simulated:0': lock_pages: expected host memory, got placement on the device",
      Error);
}

TEST_CASE("blocks of 2 MiB and more begin where a huge page can") {
  BufferPool pool(cpu(), {});
  for (const std::size_t size_bytes : {2 * kMiB, 5 * kMiB}) {
    const Buffer buffer = pool.allocate(size_bytes, nullptr);
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % (2 * kMiB) == 0);
  }
}

TEST_CASE("threads that allocate, share, trim and look never meet in one block") {
  constexpr unsigned kThreads = 4;
  constexpr int kRounds = 4000;
  constexpr std::size_t kCapacity = 2 * kMiB;
  BufferPool pool(cpu(), capacity(kCapacity));
  std::atomic<uint64_t> granted{0};
  std::atomic<uint64_t> refused{0};
  std::atomic<bool> is_sound{true};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      RandomYield maybe_yield(t);
      std::vector<std::pair<Buffer, unsigned char>> mine;
      const auto drop = [&] {
        const auto& [buffer, mark] = mine.back();
        const auto* const bytes = reinterpret_cast<const unsigned char*>(buffer.data());
        if (bytes[0] != mark || bytes[buffer.size_bytes() - 1] != mark) is_sound = false;
        mine.pop_back();
      };
      for (int round = 0; round < kRounds; ++round) {
        const std::size_t size_bytes = std::size_t{1} << (random() % 19);
        Status status;
        Buffer buffer = pool.allocate(size_bytes, &status);
        if (buffer) {
          ++granted;
          const auto mark = static_cast<unsigned char>(random());
          auto* const bytes = reinterpret_cast<unsigned char*>(buffer.data());
          bytes[0] = mark;
          bytes[buffer.size_bytes() - 1] = mark;
          mine.emplace_back(std::move(buffer), mark);
        } else {
          ++refused;
          if (status.code() != ErrorCode::kOverloaded) is_sound = false;
          while (!mine.empty()) drop();
        }
        maybe_yield();
        while (mine.size() > random() % 8) drop();
        if (random() % 200 == 0) pool.trim();
        if (random() % 50 == 0) {
          const BufferPool::Stats stats = pool.stats();
          if (stats.held_bytes > kCapacity || stats.peak_used_bytes > kCapacity) is_sound = false;
        }
      }
      while (!mine.empty()) drop();
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(is_sound);
  const BufferPool::Stats stats = pool.stats();
  CHECK(stats.used_bytes == 0);
  CHECK(stats.allocations == granted);
  CHECK(stats.exhaustions == refused);
  CHECK(granted + refused == kThreads * kRounds);
  pool.trim();
  CHECK(pool.stats().held_bytes == 0);
}

TEST_CASE("no block is ever lent to two threads at once") {
  // Long enough that threads are preempted between reading a link and using it.
  constexpr auto kLong = std::chrono::milliseconds(400);
  BufferPool pool(cpu(), {});
  std::atomic<bool> is_shared{false};
  std::atomic<uint64_t> taken{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      const auto end = std::chrono::steady_clock::now() + kLong;
      for (int round = 0; std::chrono::steady_clock::now() < end; ++round) {
        // Two at a time, given back in either order: what ABA needs.
        Buffer buffers[2] = {pool.allocate(64, nullptr), pool.allocate(64, nullptr)};
        for (const Buffer& buffer : buffers) {
          std::atomic_ref<int> owners(*reinterpret_cast<int*>(buffer.data()));
          if (owners.fetch_add(1) != 0) is_shared = true;
        }
        for (const Buffer& buffer : buffers) {
          std::atomic_ref<int>(*reinterpret_cast<int*>(buffer.data())).fetch_sub(1);
        }
        buffers[round % 2].reset();
        taken.fetch_add(2, std::memory_order_relaxed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(is_shared);
  CHECK(pool.stats().used_bytes == 0);
  CHECK(pool.stats().allocations == taken);
}

TEST_CASE("threads that want the last block get it once") {
  for (int round = 0; round < 200; ++round) {
    BufferPool pool(cpu(), capacity(256));
    std::atomic<int> granted{0};
    std::vector<Buffer> kept(4);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kept.size(); ++t) {
      threads.emplace_back([&, t] {
        kept[t] = pool.allocate(200, nullptr);
        if (kept[t]) ++granted;
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(granted == 1);
  }
}

TEST_CASE("the last of buffers that outlive their pool may be dropped on any thread") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t before = faulty.used_bytes();
    for (int round = 0; round < 200; ++round) {
      std::optional<BufferPool> pool;
      pool.emplace(open_device(faulty.device),
                   BufferPool::Options{.placement = Placement::kDevice});
      std::vector<std::thread> threads;
      for (int t = 0; t < 3; ++t) {
        threads.emplace_back([buffer = pool->allocate(100, nullptr)]() mutable { buffer.reset(); });
      }
      pool.reset();
      for (std::thread& thread : threads) thread.join();
    }
    CHECK(faulty.used_bytes() == before);
  });
}
