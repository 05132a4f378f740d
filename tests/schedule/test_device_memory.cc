// Inputs that lie in the device's memory, and outputs that stay there, through a whole model of
// the echo engine, on every device that has memory of its own.
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "memory/cuda_context.h"
#include "memory/cuda_driver.h"
#include "memory/cuda_stream.h"
#include "memory/faulty_devices.h"
#include "memory/hand_over.h"
#include "memory/present_backends.h"
#include "schedule/echo_model.h"

namespace pyruntime {
namespace {

// Calls check(backend) for the first device of each kind whose memory the host cannot reach.
template <typename Check>
void for_each_separate_device(Check check) {
  test::for_each_device([&](DeviceBackend& backend) {
    if (!backend.is_host_accessible() && backend.device().index == 0) check(backend);
  });
}

EchoSettings on(DeviceBackend& backend, std::vector<std::string> inputs = {"input"}) {
  EchoSettings settings;
  settings.inputs = std::move(inputs);
  settings.instances = {{.device = backend.device(), .count = 1}};
  settings.batching.max_rows = 64;
  return settings;
}

// Numbers in memory of the device that someone else has allocated.
class OnDevice {
 public:
  OnDevice(DeviceBackend& backend, Numbers numbers)
      : backend_(backend),
        numbers_(std::move(numbers)),
        bytes_(numbers_.view().size_bytes()),
        address_(static_cast<std::byte*>(backend.allocate(bytes_ + kOffset))) {
    const auto stream = backend.create_stream();
    stream->copy(address_ + kOffset, numbers_.values.data(), bytes_, CopyKind::kHostToDevice);
    REQUIRE(stream->synchronize().ok());
  }
  ~OnDevice() { backend_.free(address_, bytes_ + kOffset); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  Tensor view() {
    Tensor tensor = numbers_.view();
    tensor.device = backend_.device();
    tensor.data = address_ + kOffset;
    return tensor;
  }
  const std::vector<int64_t>& values() const { return numbers_.values; }

 private:
  static constexpr std::size_t kOffset = 64;
  DeviceBackend& backend_;
  Numbers numbers_;
  const std::size_t bytes_;
  std::byte* const address_;
};

std::vector<int64_t> fetch(DeviceBackend& backend, const Tensor& tensor) {
  REQUIRE(tensor.device == backend.device());
  std::vector<int64_t> values(tensor.size_bytes() / sizeof(int64_t));
  const auto stream = backend.create_stream();
  stream->copy(values.data(), tensor.data, tensor.size_bytes(), CopyKind::kDeviceToHost);
  REQUIRE(stream->synchronize().ok());
  return values;
}

Status run(ModelVersion& model, const RequestRef& request) { return model.infer(request); }

// Keeps a model's only instance busy until it ends, so that what is sent meanwhile is one batch.
class Busy {
 public:
  explicit Busy(ModelVersion& model) : numbers_(rows_of_four(1, 0)) {
    for (int i = 0; i < 2; ++i) {  // as many as may be in flight
      requests_.push_back(ask(model, numbers_));
      REQUIRE(model.submit(requests_.back()).ok());
    }
  }
  ~Busy() {
    for (const RequestRef& request : requests_) request->wait();
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Numbers numbers_;
  std::vector<RequestRef> requests_;
};

}  // namespace

TEST_CASE("an input in the device's memory is read there") {
  for_each_separate_device([](DeviceBackend& backend) {
    const auto model = load_echo(on(backend));
    OnDevice given(backend, rows_of_four(3, 100));
    const RequestRef request = model->new_request();
    request->inputs[0] = given.view();
    REQUIRE(run(*model, request).ok());
    CHECK(answer(*request) == given.values());
  });
}

TEST_CASE("what is not aligned as engines want it is copied on the device") {
  for_each_separate_device([](DeviceBackend& backend) {
    const auto model = load_echo(on(backend));
    OnDevice given(backend, rows_of_four(3, 100));
    const RequestRef request = model->new_request();
    Tensor second_row = given.view();
    second_row.data += second_row.row_bytes();
    second_row.shape[0] = 2;
    request->inputs[0] = second_row;
    REQUIRE(run(*model, request).ok());
    CHECK(answer(*request) ==
          std::vector<int64_t>(given.values().begin() + 4, given.values().end()));
  });
}

TEST_CASE("a request's inputs may lie on both sides, and so may those of a batch") {
  for_each_separate_device([](DeviceBackend& backend) {
    EchoSettings settings = on(backend, {"a", "b"});
    settings.config = {{"echo.delay_us", "20000"}};
    const auto model = load_echo(settings);
    Numbers host_a = rows_of_four(2, 1);
    Numbers host_b = rows_of_four(2, 50);
    OnDevice device_a(backend, rows_of_four(3, 1000));
    OnDevice device_b(backend, rows_of_four(2, 2000));
    Numbers other_b = rows_of_four(3, 3000);
    const RequestRef first = model->new_request();   // a on the host, b on the device
    const RequestRef second = model->new_request();  // the other way round
    const RequestRef third = model->new_request();   // both on the host
    first->inputs[0] = host_a.view();
    first->inputs[1] = device_b.view();
    second->inputs[0] = device_a.view();
    second->inputs[1] = other_b.view();
    third->inputs[0] = host_a.view();
    third->inputs[1] = host_b.view();
    {
      Numbers blocker = rows_of_four(1, 0);
      std::vector<RequestRef> busy;
      for (int i = 0; i < 2; ++i) {
        busy.push_back(model->new_request());
        busy.back()->inputs[0] = blocker.view();
        busy.back()->inputs[1] = blocker.view();
        REQUIRE(model->submit(busy.back()).ok());
      }
      for (const RequestRef& request : {first, second, third}) {
        REQUIRE(model->submit(request).ok());
      }
      for (const RequestRef& request : busy) request->wait();
    }
    for (const RequestRef& request : {first, second, third}) {
      request->wait();
      REQUIRE_MESSAGE(request->status.ok(), request->status.message());
    }
    const auto answer_b = [](const Request& request) {
      const Tensor& output = request.outputs[1];
      const auto* const begin = output.data_as<int64_t>();
      return std::vector<int64_t>(begin, begin + output.size_bytes() / sizeof(int64_t));
    };
    CHECK(answer(*first) == host_a.values);
    CHECK(answer_b(*first) == device_b.values());
    CHECK(answer(*second) == device_a.values());
    CHECK(answer_b(*second) == other_b.values);
    CHECK(answer(*third) == host_a.values);
    CHECK(answer_b(*third) == host_b.values);
  });
}

TEST_CASE("an input on the device is padded there, and its output cut back") {
  for_each_separate_device([](DeviceBackend& backend) {
    EchoSettings settings = on(backend);
    settings.dims = {-1, -1};
    settings.symbols = {"rows", "length"};
    PaddingOptions padding;
    padding.dim = "length";
    padding.sizes = {8};
    padding.value = -7;
    settings.batching.padding = {padding};
    const auto model = load_echo(settings);
    OnDevice given(backend, Numbers({1, 2, 3, 4, 5, 6}, Shape{2, 3}));
    for (const bool stays : {false, true}) {
      const RequestRef request = model->new_request();
      request->inputs[0] = given.view();
      if (stays) request->keep_on_device(kAllOutputs);
      REQUIRE(run(*model, request).ok());
      CHECK(request->outputs[0].shape == Shape{2, 3});
      CHECK((stays ? fetch(backend, request->outputs[0]) : answer(*request)) == given.values());
    }
  });
}

TEST_CASE("outputs stay on the device for who wants that, and only for them") {
  for_each_separate_device([](DeviceBackend& backend) {
    EchoSettings settings = on(backend);
    settings.config = {{"echo.delay_us", "20000"}};
    const auto model = load_echo(settings);
    std::vector<Numbers> numbers;
    std::vector<RequestRef> requests;
    numbers.reserve(6);
    {
      const Busy busy(*model);
      for (int i = 0; i < 6; ++i) {
        // The last is large, so that the others are small parts of the batch.
        numbers.push_back(rows_of_four(i == 5 ? 32 : 1 + i % 2, 100 * i));
        requests.push_back(ask(*model, numbers.back()));
        if (i % 2 == 1) requests.back()->keep_on_device(kAllOutputs);
        REQUIRE(model->submit(requests.back()).ok());
      }
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i]->wait();
      REQUIRE_MESSAGE(requests[i]->status.ok(), requests[i]->status.message());
      CHECK(requests[i]->outputs[0].shape == numbers[i].shape);
      if (i % 2 == 1) {
        CHECK(fetch(backend, requests[i]->outputs[0]) == numbers[i].values);
      } else {
        CHECK(answer(*requests[i]) == numbers[i].values);
      }
    }
  });
}

TEST_CASE("an output on the device keeps its memory, also beyond its model") {
  for_each_separate_device([](DeviceBackend& backend) {
    Tensor kept;
    Numbers numbers = rows_of_four(2, 7);
    {
      const auto model = load_echo(on(backend));
      {
        const RequestRef request = ask(*model, numbers);
        request->keep_on_device(kAllOutputs);
        REQUIRE(run(*model, request).ok());
        kept = request->outputs[0];
      }
      Numbers others = rows_of_four(2, 900);
      for (int i = 0; i < 4; ++i) REQUIRE(run(*model, ask(*model, others)).ok());
    }
    CHECK(fetch(backend, kept) == numbers.values);
  });
}

TEST_CASE("a request's memory on the device is not taken for the host's by the next one") {
  for_each_separate_device([](DeviceBackend& backend) {
    const auto model = load_echo(on(backend));
    Numbers numbers = rows_of_four(2, 7);
    for (int i = 0; i < 3; ++i) {
      const RequestRef request = ask(*model, numbers);
      if (i != 2) request->keep_on_device(kAllOutputs);
      REQUIRE(run(*model, request).ok());
      if (i == 2) CHECK(answer(*request) == numbers.values);
    }
  });
}

TEST_CASE("an output is written into memory of the caller's") {
  for_each_separate_device([](DeviceBackend& backend) {
    const auto model = load_echo(on(backend));
    OnDevice target(backend, rows_of_four(4, 0));
    Numbers numbers = rows_of_four(2, 30);
    Tensor room = target.view();
    room.type = DataType::kUint8;
    SUBCASE("which is large enough") {
      room.shape = Shape{static_cast<int64_t>(numbers.view().size_bytes())};
      const RequestRef request = ask(*model, numbers);
      request->write_to(0, room);
      REQUIRE(run(*model, request).ok());
      CHECK(request->outputs[0].data == target.view().data);
      CHECK(request->outputs[0].shape == numbers.shape);
      CHECK(fetch(backend, request->outputs[0]) == numbers.values);
    }
    SUBCASE("which is too small") {
      room.shape = Shape{63};
      const RequestRef request = ask(*model, numbers);
      request->write_to(0, room);
      CHECK(run(*model, request).message() ==
            "output 'output_0': expected memory of at least 64 bytes for int64[2, 4], got 63");
      CHECK(fetch(backend, target.view()) == target.values());
    }
  });
}

TEST_CASE("one whose memory is too small fails alone") {
  for_each_separate_device([](DeviceBackend& backend) {
    EchoSettings settings = on(backend);
    settings.config = {{"echo.delay_us", "20000"}};
    const auto model = load_echo(settings);
    OnDevice target(backend, rows_of_four(1, 0));
    Tensor room = target.view();
    room.type = DataType::kUint8;
    room.shape = Shape{8};
    Numbers numbers = rows_of_four(1, 30);
    const RequestRef bad = ask(*model, numbers);
    bad->write_to(0, room);
    const RequestRef good = ask(*model, numbers);
    {
      const Busy busy(*model);
      REQUIRE(model->submit(bad).ok());
      REQUIRE(model->submit(good).ok());
    }
    bad->wait();
    good->wait();
    CHECK(bad->status.code() == ErrorCode::kInvalidInput);
    REQUIRE(good->status.ok());
    CHECK(answer(*good) == numbers.values);
    require_conserved(model->stats());
  });
}

TEST_CASE("memory of a device is refused where the model is elsewhere") {
  for_each_separate_device([](DeviceBackend& backend) {
    Numbers numbers = rows_of_four(1, 0);
    const std::string name = backend.device().name();
    const Device other{backend.device().kind, 1};
    Tensor there = numbers.view();

    const auto on_host = load_echo();
    const RequestRef request = on_host->new_request();
    there.device = backend.device();
    request->inputs[0] = there;
    CHECK(run(*on_host, request).message() ==
          "input 'input': expected memory on 'cpu', got '" + name + "'");
    const RequestRef wants_device = ask(*on_host, numbers);
    wants_device->keep_on_device(kAllOutputs);
    CHECK(run(*on_host, wants_device).code() == ErrorCode::kInvalidInput);

    const auto on_first = load_echo(on(backend));
    const RequestRef from_second = on_first->new_request();
    there.device = other;
    from_second->inputs[0] = there;
    CHECK(run(*on_first, from_second).message() ==
          "input 'input': expected memory on 'cpu' or '" + name + "', got '" + other.name() + "'");
    const RequestRef to_second = ask(*on_first, numbers);
    to_second->write_to(0, there);
    CHECK(run(*on_first, to_second).message() ==
          "output 'output_0': expected memory on '" + name + "', got '" + other.name() + "'");

    EchoSettings both = on(backend);
    both.instances.push_back({.device = other, .count = 1});
    const auto on_both = load_echo(both);
    const RequestRef to_both = on_both->new_request();
    there.device = backend.device();
    to_both->inputs[0] = there;
    CHECK(run(*on_both, to_both).message() ==
          "input 'input': expected memory on 'cpu', got '" + name + "'");
  });
}

// --- streams of others, on CUDA

TEST_CASE("who still writes to an input is waited for, on the device") {
  if (test::fake_driver() == nullptr) return;
  DeviceBackend& backend = open_device({DeviceKind::kCuda, 0});
  const auto model = load_echo(on(backend));
  OnDevice given(backend, rows_of_four(2, 0));
  Numbers numbers = rows_of_four(2, 500);
  const auto others = backend.create_stream();
  const uint64_t misuses = test::fake_driver()->misuse_count();
  test::fake_driver()->set_faults(0, {.delay_us = 2000});
  const RequestRef request = model->new_request();
  Tensor input = given.view();

  const test::TestMemory source(backend, test::TestMemory::Side::kHost, input.size_bytes());
  std::memcpy(source.address(), numbers.values.data(), input.size_bytes());
  others->copy(input.data, source.address(), input.size_bytes(), CopyKind::kHostToDevice);

  SUBCASE("by the stream that it names") {
    HandOver taken(backend);
    REQUIRE(taken.after(others->native_handle()).ok());
    input.buffer = taken.wrap(input.data, input.size_bytes());
    request->inputs[0] = input;
    REQUIRE(run(*model, request).ok());
    CHECK(answer(*request) == numbers.values);
    CHECK(test::fake_driver()->misuse_count() == misuses);
  }
  SUBCASE("by the stream that is handed to it") {
    HandOver taken(backend);
    void* const handle = taken.stream();
    CHECK(handle != nullptr);
    // As its owner does on its own; here through our own streams' handles.
    const auto event = backend.create_event();
    others->record(*event);
    const auto wait = cuda::driver().cuStreamWaitEvent.function;
    const auto& own = dynamic_cast<CudaEvent&>(*event);
    const CudaContext context(cuda::driver(), 0);
    const CudaContext::Current current(context);
    REQUIRE(wait(static_cast<cuda::Stream>(handle), own.handle(), 0) == cuda::kSuccess);
    input.buffer = taken.wrap(input.data, input.size_bytes());
    request->inputs[0] = input;
    REQUIRE(run(*model, request).ok());
    CHECK(answer(*request) == numbers.values);
    CHECK(test::fake_driver()->misuse_count() == misuses);
  }
  SUBCASE("and a wait that is missing is found by the fake driver") {
    request->inputs[0] = input;
    REQUIRE(run(*model, request).ok());
    CHECK(test::fake_driver()->misuse_count() > misuses);
  }
  test::fake_driver()->set_faults(0, {});
  CHECK(others->synchronize().ok());
}

TEST_CASE("a stream that is none is refused") {
  if (test::fake_driver() == nullptr) return;
  HandOver taken(open_device({DeviceKind::kCuda, 0}));
  uint64_t nothing = 0;
  CHECK(taken.after(&nothing).code() == ErrorCode::kInvalidInput);
}

TEST_CASE("an output that was given out is not used again before its readers are done") {
  if (test::fake_driver() == nullptr) return;
  DeviceBackend& backend = open_device({DeviceKind::kCuda, 0});
  const uint64_t used = test::fake_driver()->used_bytes(0);
  const uint64_t misuses = test::fake_driver()->misuse_count();
  {
    const auto model = load_echo(on(backend));
    Numbers numbers = rows_of_four(2, 7);
    const RequestRef request = ask(*model, numbers);
    request->keep_on_device(kAllOutputs);
    REQUIRE(run(*model, request).ok());
    const test::TestMemory copy(backend, test::TestMemory::Side::kHost,
                                request->outputs[0].size_bytes());
    test::fake_driver()->set_faults(0, {.delay_us = 5000});
    {
      Buffer given_out = keep_for_streams(backend, std::move(request->outputs[0].buffer));
      // A reader in the default stream, which the host does not wait for.
      const auto copy_out = cuda::driver().cuMemcpyDtoHAsync.function;
      const CudaContext context(cuda::driver(), 0);
      const CudaContext::Current current(context);
      REQUIRE(copy_out(copy.address(),
                       reinterpret_cast<cuda::DevicePointer>(request->outputs[0].data),
                       copy.size_bytes(), nullptr) == cuda::kSuccess);
    }
    test::fake_driver()->set_faults(0, {});
    Numbers others = rows_of_four(2, 900);
    for (int i = 0; i < 8; ++i) REQUIRE(run(*model, ask(*model, others)).ok());
    const auto read = backend.create_event();
    REQUIRE(backend.record_foreign(nullptr, *read).ok());
    REQUIRE(read->wait().ok());
    CHECK(std::memcmp(copy.address(), numbers.values.data(), copy.size_bytes()) == 0);
  }
  while (test::fake_driver()->used_bytes(0) != used) std::this_thread::yield();
  CHECK(test::fake_driver()->misuse_count() == misuses);
}

}  // namespace pyruntime
