// What holds on every device that is here.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/device.h"
#include "memory/device_simulated.h"
#include "memory/fake_driver.h"
#include "memory/present_backends.h"

using namespace pyruntime;
using pyruntime::test::for_each_device;
using pyruntime::test::TestMemory;
using Side = TestMemory::Side;

namespace {

void fill(const TestMemory& memory, unsigned char first) {
  std::iota(memory.bytes(), memory.bytes() + memory.size_bytes(), first);
}

bool is_filled(const TestMemory& memory, unsigned char first) {
  std::vector<unsigned char> expected(memory.size_bytes());
  std::iota(expected.begin(), expected.end(), first);
  return std::memcmp(memory.address(), expected.data(), expected.size()) == 0;
}

void copy(Stream& stream, const TestMemory& to, const TestMemory& from, CopyKind kind) {
  stream.copy(to.address(), from.address(), from.size_bytes(), kind);
}

}  // namespace

TEST_CASE("memory of every size is aligned and apart from other memory") {
  for_each_device([](DeviceBackend& backend) {
    for (const Side side : {Side::kHost, Side::kDevice}) {
      for (const std::size_t size_bytes : {0, 1, 255, 4096, 70'000, 5 << 20}) {
        const TestMemory a(backend, side, size_bytes);
        const TestMemory b(backend, side, size_bytes);
        REQUIRE(a.address() != nullptr);
        CHECK(reinterpret_cast<uintptr_t>(a.address()) % 256 == 0);
        const uintptr_t low = std::min(reinterpret_cast<uintptr_t>(a.address()),
                                       reinterpret_cast<uintptr_t>(b.address()));
        const uintptr_t high = std::max(reinterpret_cast<uintptr_t>(a.address()),
                                        reinterpret_cast<uintptr_t>(b.address()));
        CHECK(high - low >= std::max<std::size_t>(size_bytes, 1));
        if (side == Side::kHost || backend.is_host_accessible()) {
          std::memset(a.address(), 1, size_bytes);
        }
      }
    }
  });
}

TEST_CASE("bytes come back from the device as they went in, in the order of the calls") {
  for_each_device([](DeviceBackend& backend) {
    const TestMemory source(backend, Side::kHost, 1000);
    const TestMemory staged(backend, Side::kHost, 1000);
    const TestMemory result(backend, Side::kHost, 1000);
    const TestMemory first(backend, Side::kDevice, 1000);
    const TestMemory second(backend, Side::kDevice, 1000);
    fill(source, 3);
    const auto stream = backend.create_stream();
    const auto done = backend.create_event();
    copy(*stream, staged, source, CopyKind::kHostToHost);
    copy(*stream, first, staged, CopyKind::kHostToDevice);
    copy(*stream, second, first, CopyKind::kDeviceToDevice);
    copy(*stream, result, second, CopyKind::kDeviceToHost);
    stream->record(*done);
    CHECK(done->wait().ok());
    CHECK(is_filled(result, 3));
    CHECK(is_filled(staged, 3));
  });
}

TEST_CASE("a host buffer may be copied from and then to in one stream") {
  for_each_device([](DeviceBackend& backend) {
    const TestMemory host(backend, Side::kHost, 512);
    const TestMemory old(backend, Side::kDevice, 512);
    const TestMemory kept(backend, Side::kDevice, 512);
    const auto stream = backend.create_stream();
    fill(host, 1);
    copy(*stream, old, host, CopyKind::kHostToDevice);
    REQUIRE(stream->synchronize().ok());
    fill(host, 2);
    copy(*stream, kept, host, CopyKind::kHostToDevice);  // must read 2, ...
    copy(*stream, host, old, CopyKind::kDeviceToHost);   // not what comes here
    REQUIRE(stream->synchronize().ok());
    CHECK(is_filled(host, 1));
    copy(*stream, host, kept, CopyKind::kDeviceToHost);
    REQUIRE(stream->synchronize().ok());
    CHECK(is_filled(host, 2));
  });
}

TEST_CASE("a part of an allocation can be copied, and nothing at all") {
  for_each_device([](DeviceBackend& backend) {
    const TestMemory host(backend, Side::kHost, 100);
    const TestMemory device(backend, Side::kDevice, 100);
    const auto stream = backend.create_stream();
    fill(host, 0);
    copy(*stream, device, host, CopyKind::kHostToDevice);
    stream->copy(host.bytes(), static_cast<std::byte*>(device.address()) + 50, 50,
                 CopyKind::kDeviceToHost);
    stream->copy(host.bytes(), device.address(), 0, CopyKind::kDeviceToHost);
    REQUIRE(stream->synchronize().ok());
    CHECK(host.bytes()[0] == 50);
    CHECK(host.bytes()[49] == 99);
    CHECK(host.bytes()[50] == 50);
  });
}

TEST_CASE("an event that was never recorded is ready and good") {
  for_each_device([](DeviceBackend& backend) {
    const auto event = backend.create_event();
    CHECK(event->is_ready());
    CHECK(event->status().ok());
    CHECK(event->wait().ok());
    const auto stream = backend.create_stream();
    stream->wait(*event);
    CHECK(stream->synchronize().ok());
  });
}

TEST_CASE("an event is ready once waited for, and can be recorded again") {
  for_each_device([](DeviceBackend& backend) {
    const TestMemory host(backend, Side::kHost, 64);
    const TestMemory result(backend, Side::kHost, 64);
    const TestMemory device(backend, Side::kDevice, 64);
    const auto stream = backend.create_stream();
    const auto event = backend.create_event();
    for (int round = 0; round < 50; ++round) {
      fill(host, static_cast<unsigned char>(round));
      copy(*stream, device, host, CopyKind::kHostToDevice);
      copy(*stream, result, device, CopyKind::kDeviceToHost);
      stream->record(*event);
      if (round % 2 == 0) {
        while (!event->is_ready()) std::this_thread::yield();
      } else {
        CHECK(event->wait().ok());
      }
      REQUIRE(event->is_ready());
      CHECK(event->status().ok());
      REQUIRE(is_filled(result, static_cast<unsigned char>(round)));
    }
  });
}

TEST_CASE("a stream that waits for another's event sees its work") {
  for_each_device([](DeviceBackend& backend) {
    const TestMemory host(backend, Side::kHost, 4096);
    const TestMemory result(backend, Side::kHost, 4096);
    const TestMemory device(backend, Side::kDevice, 4096);
    const auto first = backend.create_stream();
    const auto second = backend.create_stream();
    for (int round = 0; round < 20; ++round) {
      fill(host, static_cast<unsigned char>(round));
      {
        const auto handed_over = backend.create_event();
        copy(*first, device, host, CopyKind::kHostToDevice);
        first->record(*handed_over);
        second->wait(*handed_over);
        copy(*second, result, device, CopyKind::kDeviceToHost);
        // The event may die before either stream has come to it.
      }
      REQUIRE(second->synchronize().ok());
      REQUIRE(is_filled(result, static_cast<unsigned char>(round)));
    }
  });
}

TEST_CASE("functions are called in stream order, after the copies before them") {
  for_each_device([](DeviceBackend& backend) {
    struct Log {
      std::vector<int> numbers;
      const unsigned char* byte = nullptr;
    };
    const TestMemory host(backend, Side::kHost, 1);
    const TestMemory result(backend, Side::kHost, 1);
    const TestMemory device(backend, Side::kDevice, 1);
    Log log;
    log.byte = result.bytes();
    const auto stream = backend.create_stream();
    fill(host, 77);
    copy(*stream, device, host, CopyKind::kHostToDevice);
    copy(*stream, result, device, CopyKind::kDeviceToHost);
    stream->call(
        [](void* context) {
          auto& seen = *static_cast<Log*>(context);
          seen.numbers.push_back(*seen.byte);
        },
        &log);
    stream->call([](void* context) { static_cast<Log*>(context)->numbers.push_back(2); }, &log);
    REQUIRE(stream->synchronize().ok());
    CHECK(log.numbers == std::vector<int>{77, 2});
  });
}

TEST_CASE("destroying a stream waits for its work") {
  for_each_device([](DeviceBackend& backend) {
    const TestMemory host(backend, Side::kHost, 256);
    const TestMemory result(backend, Side::kHost, 256);
    const TestMemory device(backend, Side::kDevice, 256);
    fill(host, 9);
    std::atomic<int> calls{0};
    {
      const auto stream = backend.create_stream();
      copy(*stream, device, host, CopyKind::kHostToDevice);
      copy(*stream, result, device, CopyKind::kDeviceToHost);
      stream->call([](void* context) { ++*static_cast<std::atomic<int>*>(context); }, &calls);
    }
    CHECK(calls == 1);
    CHECK(is_filled(result, 9));
  });
}

TEST_CASE("many streams work at once, each in its own order") {
  for_each_device([](DeviceBackend& backend) {
    std::vector<std::thread> threads;
    std::atomic<int> good{0};
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const TestMemory host(backend, Side::kHost, 300);
        const TestMemory result(backend, Side::kHost, 300);
        const TestMemory device(backend, Side::kDevice, 300);
        const auto stream = backend.create_stream();
        const auto event = backend.create_event();
        for (int round = 0; round < 100; ++round) {
          const auto first = static_cast<unsigned char>(50 * t + round);
          fill(host, first);
          copy(*stream, device, host, CopyKind::kHostToDevice);
          copy(*stream, result, device, CopyKind::kDeviceToHost);
          stream->record(*event);
          if (event->wait().ok() && is_filled(result, first)) ++good;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(good == 400);
  });
}

TEST_CASE("who asks for a notice gets it once the event is ready, and holds nothing up") {
  for_each_device([](DeviceBackend& backend) {
    struct Notice {
      std::atomic<bool> has_come{false};
    };
    const TestMemory host(backend, Side::kHost, 64);
    const TestMemory device(backend, Side::kDevice, 64);
    const auto stream = backend.create_stream();
    const auto event = backend.create_event();
    fill(host, 0);
    for (int round = 0; round < 20; ++round) {
      Notice notice;
      copy(*stream, device, host, CopyKind::kHostToDevice);
      stream->record(*event);
      stream->notify(
          *event, [](void* context) { static_cast<Notice*>(context)->has_come = true; }, &notice);
      copy(*stream, device, host, CopyKind::kHostToDevice);
      while (!notice.has_come) std::this_thread::yield();
      CHECK(event->is_ready());
      REQUIRE(stream->synchronize().ok());
    }
  });
}

TEST_CASE("out of memory names the device and the size, and the device works on") {
  for_each_device([](DeviceBackend& backend) {
    constexpr std::size_t kTooMuch = std::size_t{1} << 60;
    for (const bool on_host : {false, true}) {
      try {
        on_host ? backend.allocate_host(kTooMuch) : backend.allocate(kTooMuch);
        FAIL_CHECK("expected an Error");
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::kOverloaded);
        const std::string what = error.what();
        CHECK(what.find("'" + backend.device().name() + "'") != std::string::npos);
        CHECK(what.find(std::to_string(kTooMuch)) != std::string::npos);
      }
    }
    const TestMemory device(backend, Side::kDevice, 4096);
    CHECK(device.address() != nullptr);
  });
}

TEST_CASE("no correct use of simulated devices and the fake driver was counted as a misuse") {
  for (int16_t i = 0; i < kSimulatedDevices; ++i) CHECK(simulated_misuse_count(i) == 0);
  if (const fake_cuda::Control* fake = test::fake_driver()) {
    CHECK_MESSAGE(fake->misuse_count() == 0, std::string(fake->last_misuse()));
  }
}
