// The CUDA backend over the fake driver, and whether the fake one sees what it is
// to see. What holds on every device is in test_device_contract.cc.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/cuda_driver.h"
#include "memory/device.h"
#include "memory/device_cuda.h"
#include "memory/fake_driver.h"
#include "memory/gate.h"
#include "memory/present_backends.h"

using namespace pyruntime;
using pyruntime::test::fake_driver;
using pyruntime::test::Gate;
using pyruntime::test::TestMemory;
using Side = TestMemory::Side;

namespace {

constexpr int kUnknown = 999;

DeviceBackend& gpu(int16_t index = 0) { return open_device({DeviceKind::kCuda, index}); }

bool is_absent() {
  if (fake_driver() != nullptr) return false;
  MESSAGE("skipped: the driver is not the fake one");
  return true;
}

template <typename Function>
Status status_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.status();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Counts what the fake driver has seen since.
class Misuses {
 public:
  uint64_t count() const { return fake_driver()->misuse_count() - before_; }

 private:
  const uint64_t before_ = fake_driver()->misuse_count();
};

bool is_all(const TestMemory& memory, unsigned char value) {
  return std::all_of(memory.bytes(), memory.bytes() + memory.size_bytes(),
                     [value](unsigned char byte) { return byte == value; });
}

// Pinned memory, with memory of the device.
struct Pair {
  explicit Pair(DeviceBackend& backend)
      : host(backend, Side::kHost, 64), device(backend, Side::kDevice, 64) {
    std::memset(host.address(), 1, 64);
  }
  void copy_in(Stream& stream) const {
    stream.copy(device.address(), host.address(), 64, CopyKind::kHostToDevice);
  }
  void copy_out(Stream& stream) const {
    stream.copy(host.address(), device.address(), 64, CopyKind::kDeviceToHost);
  }
  TestMemory host;
  TestMemory device;
};

}  // namespace

// --- the driver

TEST_CASE("a driver that is not there, is none or does not start is refused with the reason") {
  Status status = status_of([] { cuda::load_driver("/nowhere/libcuda.so.1"); });
  CHECK(status.code() == ErrorCode::kUnavailable);
  CHECK(contains(status.message(), "CUDA driver '/nowhere/libcuda.so.1': dlopen: "));
  CHECK(contains(status.message(), "No such file"));
  status = status_of([] { cuda::load_driver("libm.so.6"); });
  CHECK(status.code() == ErrorCode::kUnavailable);
  CHECK(contains(status.message(), "CUDA driver 'libm.so.6': dlsym: no cuInit"));
  if (is_absent()) return;
  fake_driver()->fail_next("cuInit", kUnknown);
  status = status_of([] { cuda::load_driver(cuda::driver().path); });
  CHECK(status.code() == ErrorCode::kUnavailable);
  CHECK(contains(status.message(), ": cuInit: CUDA_ERROR_UNKNOWN (999)"));
}

TEST_CASE("the driver is chosen before it is loaded") {
  if (is_absent()) return;
  CHECK_NOTHROW(configure_cuda_driver(cuda::driver().path));
  const Status status = status_of([] { configure_cuda_driver("libm.so.6"); });
  CHECK(status.code() == ErrorCode::kInvalidInput);
  CHECK(contains(status.message(), "which is already loaded, got 'libm.so.6'"));
}

TEST_CASE("a GPU is described by name, memory and version") {
  if (is_absent()) return;
  for (const BackendEntry& entry : device_backends()) {
    if (entry.kind != DeviceKind::kCuda) continue;
    CHECK(entry.device_count() == fake_cuda::kDevices);
    CHECK(entry.describe(1) == "Fake GPU 1, 1.0 GiB, CUDA 13.0");
  }
}

TEST_CASE("a child of fork() does not touch the driver, and says why") {
  if (is_absent()) return;
  DeviceBackend& backend = gpu();
  void* const memory = backend.allocate(100);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const Status opened = status_of([] { gpu(); });
    if (!contains(opened.message(), "fork")) _exit(1);
    const Status allocated = status_of([&] { backend.allocate(1); });
    if (allocated.code() != ErrorCode::kEngineError) _exit(2);
    if (!contains(allocated.message(), "before this process was forked")) _exit(3);
    backend.free(memory, 100);  // silently nothing: the memory is the parent's
    _exit(0);
  }
  int state = 0;
  REQUIRE(waitpid(child, &state, 0) == child);
  REQUIRE(WIFEXITED(state));
  CHECK(WEXITSTATUS(state) == 0);
  const Misuses misuses;
  backend.free(memory, 100);
  CHECK(misuses.count() == 0);
}

TEST_CASE("whoever calls finds the context that it had") {
  if (is_absent()) return;
  const cuda::Driver& driver = cuda::driver();
  cuda::Context other = nullptr;
  REQUIRE(driver.cuDevicePrimaryCtxRetain.function(&other, 1) == cuda::kSuccess);
  for (cuda::Context mine : {static_cast<cuda::Context>(nullptr), other}) {
    REQUIRE(driver.cuCtxSetCurrent.function(mine) == cuda::kSuccess);
    const Pair pair(gpu(0));
    const auto stream = gpu(0).create_stream();
    pair.copy_in(*stream);
    CHECK(stream->synchronize().ok());
    cuda::Context now = other;
    REQUIRE(driver.cuCtxGetCurrent.function(&now) == cuda::kSuccess);
    CHECK(now == mine);
  }
  REQUIRE(driver.cuCtxSetCurrent.function(nullptr) == cuda::kSuccess);
}

// --- failures

TEST_CASE("a failed call is named, with the driver's own name of the error") {
  if (is_absent()) return;
  for (const char* call :
       {"cuMemAllocAsync", "cuMemHostAlloc", "cuStreamCreate", "cuEventCreate"}) {
    CAPTURE(std::string(call));
    fake_driver()->fail_next(call, kUnknown);
    const Status status = status_of([] {
      const Pair pair(gpu());
      const auto stream = gpu().create_stream();
      const auto event = gpu().create_event();
    });
    CHECK(status.code() == ErrorCode::kEngineError);
    CHECK(status.message() == "device 'cuda:0': " + std::string(call) +
                                  ": CUDA_ERROR_UNKNOWN (999): an injected failure");
  }
}

TEST_CASE("a full device says how much is in use") {
  if (is_absent()) return;
  const uint64_t used = fake_driver()->used_bytes(0);
  fake_driver()->set_faults(0, {.memory_bytes = static_cast<int64_t>(used) + 1000});
  const Status status = status_of([] { gpu().allocate(2000); });
  CHECK(status.code() == ErrorCode::kOverloaded);
  CHECK(status.message() ==
        "device 'cuda:0': cuMemAllocAsync: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory, for 2000 "
        "bytes: " +
            std::to_string(used) + " in use on the device of " + std::to_string(used + 1000));
  fake_driver()->set_faults(0, {});
}

TEST_CASE("a copy that the driver refuses fails what follows, up to the next event") {
  if (is_absent()) return;
  const Pair pair(gpu());
  const auto stream = gpu().create_stream();
  const auto failed = gpu().create_event();
  const auto good = gpu().create_event();
  std::atomic<int> calls{0};
  fake_driver()->fail_next("cuMemcpyHtoDAsync_v2", kUnknown);
  pair.copy_in(*stream);
  pair.copy_out(*stream);  // skipped: else the host's bytes would be poison
  stream->call([](void* context) { ++*static_cast<std::atomic<int>*>(context); }, &calls);
  stream->record(*failed);
  const Status status = failed->wait();
  CHECK(status.code() == ErrorCode::kEngineError);
  CHECK(contains(status.message(), "cuMemcpyHtoDAsync_v2: CUDA_ERROR_UNKNOWN"));
  CHECK(calls == 1);
  CHECK(is_all(pair.host, 1));
  pair.copy_in(*stream);
  pair.copy_out(*stream);
  stream->record(*good);
  CHECK(good->wait().ok());
  CHECK(is_all(pair.host, 1));
  CHECK(failed->status().code() == ErrorCode::kEngineError);

  fake_driver()->fail_next("cuMemcpyHtoDAsync_v2", kUnknown);
  const auto other = gpu().create_stream();
  pair.copy_in(*stream);
  stream->record(*failed);
  other->wait(*failed);
  CHECK(other->synchronize().code() == ErrorCode::kEngineError);
  CHECK(other->synchronize().ok());
}

TEST_CASE("where an event cannot be recorded, what it stands for is waited for") {
  if (is_absent()) return;
  const Pair pair(gpu());
  const auto stream = gpu().create_stream();
  const auto event = gpu().create_event();
  const Misuses misuses;
  fake_driver()->set_faults(0, {.delay_us = 2000});
  pair.copy_in(*stream);
  pair.copy_out(*stream);
  fake_driver()->fail_next("cuEventRecord", kUnknown);
  stream->record(*event);
  CHECK(event->is_ready());
  CHECK(contains(event->status().message(), "cuEventRecord"));
  CHECK(is_all(pair.host, 1));  // nothing writes to it any more
  fake_driver()->set_faults(0, {});
  CHECK(misuses.count() == 0);
}

TEST_CASE("a function is called though the driver does not take it") {
  if (is_absent()) return;
  const auto stream = gpu().create_stream();
  std::atomic<int> calls{0};
  fake_driver()->fail_next("cuStreamAddCallback", kUnknown);
  stream->call([](void* context) { ++*static_cast<std::atomic<int>*>(context); }, &calls);
  CHECK(calls == 1);
  CHECK(contains(stream->synchronize().message(), "cuStreamAddCallback"));
}

TEST_CASE(
    "an error that ends the context fails everything on its device, by name, and nothing else") {
  if (is_absent()) return;
  const Pair pair(gpu(1));
  const auto stream = gpu(1).create_stream();
  const auto event = gpu(1).create_event();
  std::atomic<int> calls{0};
  const auto count = [](void* context) { ++*static_cast<std::atomic<int>*>(context); };
  fake_driver()->set_faults(1, {.end_context_after = 1});
  pair.copy_in(*stream);
  pair.copy_out(*stream);  // fails on the device
  stream->record(*event);
  stream->call(count, &calls);
  stream->notify(*event, count, &calls);
  const Status status = event->wait();
  CHECK(status.code() == ErrorCode::kEngineError);
  CHECK(contains(status.message(), "CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access"));
  CHECK(contains(status.message(), "before the process is started anew"));
  CHECK(event->is_ready());
  CHECK(contains(event->status().message(), "ILLEGAL_ADDRESS"));
  while (calls != 2) std::this_thread::yield();

  pair.copy_in(*stream);
  stream->record(*event);
  CHECK(contains(event->wait().message(), "ILLEGAL_ADDRESS"));
  stream->call(count, &calls);
  CHECK(calls == 3);
  CHECK(contains(status_of([] { gpu(1).allocate(1); }).message(), "ILLEGAL_ADDRESS"));
  CHECK(contains(status_of([] { gpu(1).create_stream(); }).message(), "ILLEGAL_ADDRESS"));

  const Pair other(gpu(0));
  const auto working = gpu(0).create_stream();
  other.copy_in(*working);
  CHECK(working->synchronize().ok());
  fake_driver()->set_faults(1, {});
}

// --- what the fake driver sees

TEST_CASE("a host destination reads poison until its event has fired") {
  if (is_absent()) return;
  const Pair pair(gpu());
  const auto stream = gpu().create_stream();
  const auto event = gpu().create_event();
  pair.copy_in(*stream);
  REQUIRE(stream->synchronize().ok());
  Gate gate(*stream);
  pair.copy_out(*stream);
  CHECK(is_all(pair.host, fake_cuda::kPoison));
  stream->record(*event);
  CHECK_FALSE(event->is_ready());
  gate.open();
  CHECK(event->wait().ok());
  CHECK(is_all(pair.host, 1));
}

TEST_CASE("a missing wait between streams is seen, whatever their pace") {
  if (is_absent()) return;
  const Pair pair(gpu());
  const TestMemory result(gpu(), Side::kHost, 64);
  const auto writer = gpu().create_stream();
  const auto reader = gpu().create_stream();
  const auto written = gpu().create_event();
  const auto read = [&] {
    reader->copy(result.address(), pair.device.address(), 64, CopyKind::kDeviceToHost);
  };
  const Misuses misuses;
  pair.copy_in(*writer);
  SUBCASE("none waits") {
    // The copy is long done: the next machine may be slower.
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    read();
    CHECK(misuses.count() == 1);
  }
  SUBCASE("the reader waits for an event recorded too early") {
    reader->wait(*written);
    read();
    CHECK(misuses.count() == 1);
  }
  SUBCASE("the reader waits for the writer's event") {
    writer->record(*written);
    reader->wait(*written);
    read();
    CHECK(misuses.count() == 0);
    pair.copy_in(*writer);  // before it was read
    CHECK(misuses.count() == 1);
  }
  SUBCASE("the host waits for the writer") {
    writer->record(*written);
    while (!written->is_ready()) std::this_thread::yield();
    read();
    CHECK(misuses.count() == 0);
  }
  SUBCASE("both only read") {
    REQUIRE(writer->synchronize().ok());
    writer->copy(pair.host.address(), pair.device.address(), 64, CopyKind::kDeviceToHost);
    read();
    CHECK(misuses.count() == 0);
  }
  CHECK(writer->synchronize().ok());
  CHECK(reader->synchronize().ok());
}

TEST_CASE("memory freed too early, twice or never allocated is seen") {
  if (is_absent()) return;
  const TestMemory host(gpu(), Side::kHost, 64);
  const auto stream = gpu().create_stream();
  void* const device = gpu().allocate(64);
  const Misuses misuses;
  SUBCASE("device memory with work under way") {
    stream->copy(device, host.address(), 64, CopyKind::kHostToDevice);
    gpu().free(device, 64);
    CHECK(misuses.count() == 1);
    CHECK(std::string(fake_driver()->last_misuse()).find("has not waited") != std::string::npos);
  }
  SUBCASE("device memory twice") {
    gpu().free(device, 64);
    gpu().free(device, 64);
    CHECK(misuses.count() == 1);
  }
  SUBCASE("host memory with work under way") {
    void* const early = gpu().allocate_host(64);
    stream->copy(device, early, 64, CopyKind::kHostToDevice);
    gpu().free_host(early, 64);
    CHECK(misuses.count() == 1);
    REQUIRE(stream->synchronize().ok());
    gpu().free(device, 64);
  }
  SUBCASE("work past the end of an allocation") {
    stream->copy(device, host.address(), 65, CopyKind::kHostToDevice);
    CHECK(misuses.count() == 1);
    CHECK(stream->synchronize().code() == ErrorCode::kEngineError);
    gpu().free(device, 64);
  }
  CHECK(stream->synchronize().ok());
}

TEST_CASE("a function on a stream that calls the driver is seen") {
  if (is_absent()) return;
  const auto stream = gpu().create_stream();
  const Misuses misuses;
  stream->call([](void*) { (void)status_of([] { gpu().allocate(1); }); }, nullptr);
  REQUIRE(stream->synchronize().ok());
  CHECK(misuses.count() == 1);
}

TEST_CASE("what was allocated is given back") {
  if (is_absent()) return;
  const uint64_t used = fake_driver()->used_bytes(0);
  const uint64_t pinned = fake_driver()->host_bytes();
  {
    const Pair pair(gpu());
    CHECK(fake_driver()->used_bytes(0) == used + 64);
    CHECK(fake_driver()->host_bytes() > pinned);
  }
  CHECK(fake_driver()->used_bytes(0) == used);
  CHECK(fake_driver()->host_bytes() == pinned);
}
