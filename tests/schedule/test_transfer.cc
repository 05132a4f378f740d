#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/faulty_devices.h"
#include "memory/gate.h"
#include "memory/present_backends.h"
#include "schedule/transfer.h"

namespace pyruntime {
namespace {

using namespace std::chrono_literals;
using test::FaultyDevice;
using test::for_each_faulty_device;
using test::Gate;
using test::TestMemory;

constexpr std::size_t kBytes = 4096;

// A batch's memory on both sides, and its way.
struct Batch {
  Batch(DeviceBackend& on, InstanceStreams& streams, unsigned char value)
      : backend(on),
        transfer(on, streams),
        asked(on, TestMemory::Side::kHost, kBytes),
        device(on, TestMemory::Side::kDevice, kBytes),
        answered(on, TestMemory::Side::kHost, kBytes) {
    std::fill_n(asked.bytes(), kBytes, value);
  }
  void upload() { transfer.to_device(device.address(), asked.address(), kBytes); }
  void download() { transfer.to_host(answered.address(), device.address(), kBytes); }
  bool is_answered() const {
    return std::equal(asked.bytes(), asked.bytes() + kBytes, answered.bytes());
  }

  DeviceBackend& backend;
  Transfer transfer;
  TestMemory asked;
  TestMemory device;
  TestMemory answered;
};

// Whether the device gets that far in ten seconds.
bool comes_through(DeviceBackend& backend, Stream& stream) {
  const auto event = backend.create_event();
  stream.record(*event);
  for (int i = 0; i < 10'000 && !event->is_ready(); ++i) std::this_thread::sleep_for(1ms);
  return event->is_ready();
}

}  // namespace

TEST_CASE("a batch goes to the device and back, either way") {
  test::for_each_device([](DeviceBackend& backend) {
    if (backend.is_host_accessible()) return;
    InstanceStreams streams(backend);
    for (const bool beside : {false, true, false, true}) {
      Batch batch(backend, streams, beside ? 7 : 9);
      batch.transfer.begin(beside);
      batch.upload();
      batch.download();
      batch.transfer.end();
      CHECK(batch.transfer.done().wait().ok());
      CHECK(batch.is_answered());
    }
  });
}

TEST_CASE("beside others' runs, a batch is uploaded while another one runs") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    DeviceBackend& backend = open_device(faulty.device);
    const uint64_t misuses = faulty.misuse_count();
    {
      InstanceStreams streams(backend);
      Batch first(backend, streams, 1);
      Batch second(backend, streams, 2);
      first.transfer.begin(true);
      first.upload();
      {
        const Gate run(first.transfer.compute());
        first.download();
        first.transfer.end();
        second.transfer.begin(true);
        second.upload();
        CHECK(comes_through(backend, *streams.upload));
        CHECK_FALSE(first.transfer.done().is_ready());
        second.download();
        second.transfer.end();
        CHECK_FALSE(second.transfer.done().is_ready());
      }
      CHECK(first.transfer.done().wait().ok());
      CHECK(second.transfer.done().wait().ok());
      CHECK(first.is_answered());
      CHECK(second.is_answered());
    }
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("beside others' runs, a batch runs while another one is downloaded") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    DeviceBackend& backend = open_device(faulty.device);
    InstanceStreams streams(backend);
    Batch first(backend, streams, 1);
    Batch second(backend, streams, 2);
    {
      const Gate download(*streams.download);
      first.transfer.begin(true);
      first.upload();
      first.download();
      first.transfer.end();
      second.transfer.begin(true);
      second.upload();
      CHECK(comes_through(backend, second.transfer.compute()));
      CHECK_FALSE(first.transfer.done().is_ready());
      second.download();
      second.transfer.end();
    }
    CHECK(first.transfer.done().wait().ok());
    CHECK(second.transfer.done().wait().ok());
    CHECK(first.is_answered());
    CHECK(second.is_answered());
  });
}

TEST_CASE("on one stream, batches follow each other") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    DeviceBackend& backend = open_device(faulty.device);
    InstanceStreams streams(backend);
    Batch first(backend, streams, 1);
    Batch second(backend, streams, 2);
    {
      const Gate run(first.transfer.compute());
      first.transfer.begin(false);
      first.upload();
      first.download();
      first.transfer.end();
      CHECK_FALSE(second.transfer.is_beside());
      second.transfer.begin(false);
      second.upload();
      second.transfer.end();
      CHECK(comes_through(backend, *streams.upload));
      CHECK_FALSE(second.transfer.done().is_ready());
    }
    CHECK(second.transfer.done().wait().ok());
  });
}

TEST_CASE("a batch is done when its upload is, though nothing came behind it") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    DeviceBackend& backend = open_device(faulty.device);
    InstanceStreams streams(backend);
    Batch batch(backend, streams, 1);
    {
      const Gate upload(*streams.upload);
      batch.transfer.begin(true);
      batch.upload();
      batch.transfer.end();  // the run could not be given
      CHECK_FALSE(batch.transfer.done().is_ready());
    }
    CHECK(batch.transfer.done().wait().ok());
  });
}

TEST_CASE("what fails on any stream is carried to the batch's end, and to no other's") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    DeviceBackend& backend = open_device(faulty.device);
    InstanceStreams streams(backend);
    for (const bool beside : {false, true}) {
      for (int64_t after = 0; after < 2; ++after) {
        Batch bad(backend, streams, 1);
        Batch good(backend, streams, 2);
        {
          const test::Faults faults(faulty, {.fail_after = after});
          bad.transfer.begin(beside);
          bad.upload();
          bad.download();
          bad.transfer.end();
        }
        good.transfer.begin(beside);
        good.upload();
        good.download();
        good.transfer.end();
        CHECK(bad.transfer.done().wait().code() == ErrorCode::kEngineError);
        CHECK(good.transfer.done().wait().ok());
        CHECK(good.is_answered());
      }
    }
  });
}

TEST_CASE(
    "a driver that refuses a wait or a record fails the batch, and nothing is left unordered") {
  const fake_cuda::Control* const driver = test::fake_driver();
  if (driver == nullptr) return;
  DeviceBackend& backend = open_device({DeviceKind::kCuda, 0});
  const uint64_t misuses = driver->misuse_count();
  driver->set_faults(0, {.delay_us = 2000});
  {
    InstanceStreams streams(backend);
    for (const std::string call :
         {"cuStreamWaitEvent", "cuEventRecord", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"}) {
      CAPTURE(call);
      for (const bool is_late : {false, true}) {
        if (is_late && call == "cuMemcpyHtoDAsync_v2") continue;  // there is none
        Batch batch(backend, streams, 1);
        batch.transfer.begin(true);
        if (!is_late) driver->fail_next(call.c_str(), 304);
        batch.upload();
        if (is_late) driver->fail_next(call.c_str(), 304);
        batch.download();
        batch.transfer.end();
        CHECK(batch.transfer.done().wait().code() == ErrorCode::kEngineError);
        // The same at once on the same memory: whatever was given is over.
        batch.transfer.begin(false);
        batch.upload();
        batch.download();
        batch.transfer.end();
        CHECK(batch.transfer.done().wait().ok());
        CHECK(batch.is_answered());
      }
    }
  }
  driver->set_faults(0, {});
  CHECK(driver->misuse_count() == misuses);
}

}  // namespace pyruntime
