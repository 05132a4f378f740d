#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/buffer_pool.h"
#include "memory/device.h"
#include "memory/device_simulated.h"
#include "memory/gate.h"
#include "memory/present_backends.h"

using namespace pyruntime;
using namespace std::chrono_literals;
using pyruntime::test::Gate;
using pyruntime::test::TestMemory;
using Side = TestMemory::Side;

namespace {

DeviceBackend& simulated(int16_t index = 0) { return open_device({DeviceKind::kSimulated, index}); }

// Heals the device when the test is over.
class Faults {
 public:
  explicit Faults(const SimulatedFaults& faults) { set_simulated_faults(0, faults); }
  ~Faults() { set_simulated_faults(0, {}); }
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;
};

bool is_all(const TestMemory& memory, unsigned char value) {
  return std::all_of(memory.bytes(), memory.bytes() + memory.size_bytes(),
                     [value](unsigned char byte) { return byte == value; });
}

void set_all(const TestMemory& memory, unsigned char value) {
  std::memset(memory.address(), value, memory.size_bytes());
}

}  // namespace

TEST_CASE("giving work does not wait for it") {
  const auto stream = simulated().create_stream();
  const auto event = simulated().create_event();
  Gate gate(*stream);
  stream->record(*event);
  CHECK_FALSE(event->is_ready());
  while (!gate.is_reached()) std::this_thread::yield();
  CHECK_FALSE(event->is_ready());
  gate.open();
  CHECK(event->wait().ok());
  CHECK(event->is_ready());
}

TEST_CASE("a host destination reads poison until its event has fired") {
  const TestMemory host(simulated(), Side::kHost, 128);
  const TestMemory result(simulated(), Side::kHost, 128);
  const TestMemory device(simulated(), Side::kDevice, 128);
  const auto stream = simulated().create_stream();
  const auto event = simulated().create_event();
  set_all(host, 1);
  stream->copy(device.address(), host.address(), 128, CopyKind::kHostToDevice);
  REQUIRE(stream->synchronize().ok());

  set_all(result, 2);
  Gate before(*stream);
  stream->copy(result.address(), device.address(), 128, CopyKind::kDeviceToHost);
  CHECK(is_all(result, kPoison));
  stream->record(*event);
  before.open();
  CHECK(event->wait().ok());
  CHECK(is_all(result, 1));
}

TEST_CASE("new device memory reads poison") {
  const TestMemory result(simulated(), Side::kHost, 64);
  const TestMemory device(simulated(), Side::kDevice, 64);
  const auto stream = simulated().create_stream();
  set_all(result, 0);
  stream->copy(result.address(), device.address(), 64, CopyKind::kDeviceToHost);
  REQUIRE(stream->synchronize().ok());
  CHECK(is_all(result, kPoison));
}

TEST_CASE("a stream that does not wait for another's copy reads poison") {
  const TestMemory host(simulated(), Side::kHost, 64);
  const TestMemory result(simulated(), Side::kHost, 64);
  const TestMemory device(simulated(), Side::kDevice, 64);
  const auto first = simulated().create_stream();
  const auto second = simulated().create_stream();
  set_all(host, 1);
  Gate gate(*first);
  first->copy(device.address(), host.address(), 64, CopyKind::kHostToDevice);
  second->copy(result.address(), device.address(), 64, CopyKind::kDeviceToHost);
  REQUIRE(second->synchronize().ok());
  CHECK(is_all(result, kPoison));
}

TEST_CASE("a host source that changes before the copy is done is seen changed") {
  const TestMemory host(simulated(), Side::kHost, 64);
  const TestMemory result(simulated(), Side::kHost, 64);
  const TestMemory device(simulated(), Side::kDevice, 64);
  const auto stream = simulated().create_stream();
  set_all(host, 1);
  Gate gate(*stream);
  stream->copy(device.address(), host.address(), 64, CopyKind::kHostToDevice);
  set_all(host, 2);
  gate.open();
  stream->copy(result.address(), device.address(), 64, CopyKind::kDeviceToHost);
  REQUIRE(stream->synchronize().ok());
  CHECK(is_all(result, 2));
}

TEST_CASE("the host faults when it reads or writes device memory") {
  const TestMemory device(simulated(), Side::kDevice, 64);
  for (const bool writes : {false, true}) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      std::signal(SIGSEGV, SIG_DFL);
      auto* const byte = static_cast<volatile unsigned char*>(device.address());
      if (writes) *byte = 1;
      _exit(writes ? 0 : *byte % 2);
    }
    int state = 0;
    REQUIRE(waitpid(child, &state, 0) == child);
    REQUIRE(WIFSIGNALED(state));
    CHECK(WTERMSIG(state) == SIGSEGV);
  }
}

TEST_CASE("every piece of work takes the injected delay") {
  const Faults faults({.delay = 5ms, .delay_jitter = 1ms});
  const TestMemory host(simulated(), Side::kHost, 8);
  const TestMemory device(simulated(), Side::kDevice, 8);
  const auto stream = simulated().create_stream();
  const auto begin = std::chrono::steady_clock::now();
  stream->copy(device.address(), host.address(), 8, CopyKind::kHostToDevice);
  stream->call([](void*) {}, nullptr);
  CHECK(stream->synchronize().ok());
  CHECK(std::chrono::steady_clock::now() - begin >= 10ms);
}

TEST_CASE("a failure is carried by the next event; then the stream works again") {
  const TestMemory host(simulated(), Side::kHost, 8);
  const TestMemory result(simulated(), Side::kHost, 8);
  const TestMemory device(simulated(), Side::kDevice, 8);
  const auto stream = simulated().create_stream();
  const auto failed = simulated().create_event();
  const auto good = simulated().create_event();
  const Faults faults({.fail_after = 1});
  int calls = 0;
  set_all(host, 1);
  stream->copy(device.address(), host.address(), 8, CopyKind::kHostToDevice);
  stream->copy(result.address(), device.address(), 8, CopyKind::kDeviceToHost);  // fails
  stream->copy(host.address(), device.address(), 8, CopyKind::kDeviceToHost);    // is skipped
  stream->call([](void* context) { ++*static_cast<int*>(context); }, &calls);    // is not
  stream->record(*failed);
  const Status status = failed->wait();
  CHECK(status.code() == ErrorCode::kEngineError);
  CHECK(status.message().find("'simulated:0'") != std::string::npos);
  CHECK(status.message().find("8 bytes, device to host: injected failure") != std::string::npos);
  CHECK(failed->status().code() == ErrorCode::kEngineError);
  CHECK(calls == 1);
  CHECK(is_all(result, kPoison));
  CHECK(is_all(host, kPoison));

  stream->copy(result.address(), device.address(), 8, CopyKind::kDeviceToHost);
  stream->record(*good);
  CHECK(good->wait().ok());
  CHECK(is_all(result, 1));
  CHECK(failed->status().code() == ErrorCode::kEngineError);
}

TEST_CASE("a stream that stalls holds up what is behind it until it is released, no other") {
  const TestMemory host(simulated(), Side::kHost, 8);
  const TestMemory result(simulated(), Side::kHost, 8);
  const TestMemory device(simulated(), Side::kDevice, 8);
  const auto stalled = simulated().create_stream();
  const auto other = simulated().create_stream();
  const auto event = simulated().create_event();
  set_all(host, 1);
  {
    const Faults faults({.stall_after = 1});
    stalled->copy(device.address(), host.address(), 8, CopyKind::kHostToDevice);
    stalled->copy(result.address(), device.address(), 8, CopyKind::kDeviceToHost);
    stalled->record(*event);
    other->copy(device.address(), host.address(), 8, CopyKind::kHostToDevice);
    CHECK(other->synchronize().ok());
    std::this_thread::sleep_for(5ms);
    CHECK_FALSE(event->is_ready());
    CHECK(is_all(result, kPoison));
  }
  CHECK(event->wait().ok());
  CHECK(is_all(result, 1));
}

TEST_CASE("synchronize reports a failure and clears it") {
  const TestMemory host(simulated(), Side::kHost, 8);
  const TestMemory device(simulated(), Side::kDevice, 8);
  const auto stream = simulated().create_stream();
  const Faults faults({.fail_after = 0});
  stream->copy(device.address(), host.address(), 8, CopyKind::kHostToDevice);
  CHECK(stream->synchronize().code() == ErrorCode::kEngineError);
  CHECK(stream->synchronize().ok());
}

TEST_CASE("a stream takes over the failure of an event that it waits for") {
  const TestMemory host(simulated(), Side::kHost, 8);
  const TestMemory result(simulated(), Side::kHost, 8);
  const TestMemory device(simulated(), Side::kDevice, 8);
  const auto first = simulated().create_stream();
  const auto second = simulated().create_stream();
  const auto handed_over = simulated().create_event();
  {
    const Faults faults({.fail_after = 0});
    first->copy(device.address(), host.address(), 8, CopyKind::kHostToDevice);
  }
  first->record(*handed_over);
  second->wait(*handed_over);
  second->copy(result.address(), device.address(), 8, CopyKind::kDeviceToHost);
  CHECK(second->synchronize().code() == ErrorCode::kEngineError);
  CHECK(first->synchronize().ok());
  CHECK(second->synchronize().ok());
}

TEST_CASE("device memory ends where it is told to, and comes back when freed") {
  const uint64_t used = simulated_used_bytes(0);
  const Faults faults({.memory_bytes = static_cast<int64_t>(used) + 1000});
  auto first = std::make_unique<TestMemory>(simulated(), Side::kDevice, 600);
  CHECK(simulated_used_bytes(0) == used + 600);
  try {
    simulated().allocate(500);
    FAIL_CHECK("expected an Error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kOverloaded);
    CHECK(error.what() == "device 'simulated:0': no 500 bytes left: " + std::to_string(used + 600) +
                              " in use of " + std::to_string(used + 1000));
  }
  first.reset();
  CHECK_NOTHROW(TestMemory(simulated(), Side::kDevice, 1000));
}

TEST_CASE("a pool on a full device refuses, and works again when there is room") {
  const uint64_t used = simulated_used_bytes(0);
  BufferPool pool(simulated(), {.placement = BufferPool::Placement::kDevice});
  Status status;
  {
    const Faults faults({.memory_bytes = static_cast<int64_t>(used)});
    CHECK_FALSE(pool.allocate(100, &status));
    CHECK(status.code() == ErrorCode::kOverloaded);
    CHECK(pool.stats().held_bytes == 0);
  }
  CHECK(pool.allocate(100, nullptr));
}

TEST_CASE("wrong use is counted and fails instead of crashing") {
  DeviceBackend& device = simulated(1);
  const auto stream = device.create_stream();
  const TestMemory host(device, Side::kHost, 4096);
  void* const memory = device.allocate(100);
  uint64_t count = simulated_misuse_count(1);
  const auto is_counted = [&count] { return simulated_misuse_count(1) == ++count; };

  SUBCASE("work past the end of an allocation") {
    stream->copy(memory, host.address(), 101, CopyKind::kHostToDevice);
    CHECK(is_counted());
    CHECK(stream->synchronize().code() == ErrorCode::kEngineError);
    device.free(memory, 100);
  }
  SUBCASE("a device address on the host's side and the other way round") {
    stream->copy(memory, memory, 10, CopyKind::kHostToDevice);
    CHECK(is_counted());
    stream->copy(host.address(), host.address(), 10, CopyKind::kDeviceToHost);
    CHECK(is_counted());
    CHECK(stream->synchronize().code() == ErrorCode::kEngineError);
    device.free(memory, 100);
  }
  SUBCASE("memory freed twice, or with another size") {
    device.free(memory, 99);
    CHECK(is_counted());
    device.free(memory, 100);
    CHECK(simulated_misuse_count(1) == count);
    device.free(memory, 100);
    CHECK(is_counted());
  }
  SUBCASE("device memory freed while work on it is under way") {
    Gate gate(*stream);
    stream->copy(memory, host.address(), 100, CopyKind::kHostToDevice);
    device.free(memory, 100);
    CHECK(is_counted());
    gate.open();
    CHECK(stream->synchronize().message().find("freed before") != std::string::npos);
  }
  SUBCASE("host memory freed while work on it is under way") {
    void* const early = device.allocate_host(64);
    Gate gate(*stream);
    stream->copy(early, memory, 64, CopyKind::kDeviceToHost);
    std::thread opener([&] {
      while (simulated_misuse_count(1) == count) std::this_thread::yield();
      gate.open();
    });
    stream->record(*device.create_event());
    device.free_host(early, 64);  // waits, so that the work finds the memory there
    CHECK(is_counted());
    opener.join();
    CHECK(stream->synchronize().ok());
    device.free(memory, 100);
  }
  SUBCASE("an event of another backend") {
    const auto foreign = open_device({}).create_event();
    stream->record(*foreign);
    CHECK(is_counted());
    stream->wait(*foreign);
    CHECK(is_counted());
    device.free(memory, 100);
  }
  CHECK(simulated_misuse_count(1) == count);
}

TEST_CASE("an event recorded on two streams is ready when the later record is done") {
  const auto slow = simulated().create_stream();
  const auto fast = simulated().create_stream();
  const auto event = simulated().create_event();
  Gate gate(*slow);
  slow->record(*event);
  CHECK_FALSE(event->is_ready());
  fast->record(*event);
  CHECK(event->wait().ok());
  gate.open();
  CHECK(slow->synchronize().ok());
  CHECK(event->is_ready());
}

TEST_CASE("a stream's thread ends with the stream") {
  const auto thread_count = [] {
    int count = 0;
    FILE* status = std::fopen("/proc/self/status", "r");
    char line[256];
    while (std::fgets(line, sizeof line, status) != nullptr) {
      if (std::sscanf(line, "Threads: %d", &count) == 1) break;
    }
    std::fclose(status);
    return count;
  };
  const int before = thread_count();
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 8; ++i) streams.push_back(simulated().create_stream());
  CHECK(thread_count() == before + 8);
  streams.clear();
  // A joined thread may show for a moment longer.
  for (int i = 0; i < 1000 && thread_count() != before; ++i) std::this_thread::sleep_for(1ms);
  CHECK(thread_count() == before);
}
