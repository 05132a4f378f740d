// Tensors in memory that a client shares: of the system, and of a GPU over the fake CUDA driver.
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/cuda_context.h"
#include "memory/fake_driver.h"
#include "memory/present_backends.h"
#include "wire/echo_service.h"
#include "wire/shared_memory.h"

namespace pyruntime {
namespace {

using testing::bytes_field;
using testing::EchoService;
using testing::number_field;
using testing::parameter;
using testing::RequestBuilder;
using testing::spec;

// A client's piece of the system's shared memory.
class Piece {
 public:
  explicit Piece(std::size_t size_bytes)
      : key_("/pyruntime_test_" + std::to_string(getpid())), size_bytes_(size_bytes) {
    const int file = shm_open(key_.c_str(), O_CREAT | O_RDWR | O_TRUNC, 0600);
    REQUIRE(file >= 0);
    REQUIRE(ftruncate(file, static_cast<off_t>(size_bytes)) == 0);
    void* const mapped = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REQUIRE(mapped != MAP_FAILED);
    data_ = static_cast<char*>(mapped);
    close(file);
  }
  ~Piece() {
    munmap(data_, size_bytes_);
    shm_unlink(key_.c_str());
  }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  const std::string& key() const { return key_; }
  char* data() const { return data_; }

 private:
  const std::string key_;
  const std::size_t size_bytes_;
  char* data_ = nullptr;
};

// The parameters of a tensor; field: 4 of an input, 2 of an output.
std::string place(uint32_t field, const std::string& region, uint64_t size_bytes,
                  uint64_t offset = 0) {
  std::string text = parameter(field, "shared_memory_region", bytes_field(3, region)) +
                     parameter(field, "shared_memory_byte_size", number_field(2, size_bytes));
  if (offset != 0) text += parameter(field, "shared_memory_offset", number_field(2, offset));
  return text;
}

Status why(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.status();
  }
  return {};
}

struct Service : EchoService {
  SharedMemory shared;

  Status call(const RequestBuilder& request, std::string* response = nullptr) {
    InferCall one(registry, &shared);
    Status status = one.decode(testing::as_bytes(request.bytes));
    if (status.ok()) status = one.infer();
    if (status.ok() && response != nullptr) {
      response->resize(one.response_size());
      one.encode(reinterpret_cast<std::byte*>(response->data()));
    }
    return status;
  }
};

}  // namespace

TEST_CASE("inputs and outputs lie in a region of the system") {
  Service service;
  service.add("one", {spec("x", DataType::kFloat32, {-1, 4})});
  const Piece piece(8192);
  service.shared.add_system("in", piece.key(), 0, 4096);
  service.shared.add_system("out", piece.key(), 4100, 128);  // not at the begin of a page
  const std::vector<float> values{1, 2, 3, 4, 5, 6, 7, 8};
  std::memcpy(piece.data() + 64, values.data(), 32);
  std::string response;
  REQUIRE(service
              .call(RequestBuilder()
                        .model("one")
                        .input("x", "FP32", {2, 4}, place(4, "in", 32, 64))
                        .output("output_0", place(2, "out", 40, 4)),
                    &response)
              .ok());
  CHECK(std::memcmp(piece.data() + 4104, values.data(), 32) == 0);
  // Named, with its size, and no contents but an empty place in their list.
  const std::string region = bytes_field(3, "out");
  CHECK(response.find(parameter(4, "shared_memory_region", region)) != std::string::npos);
  CHECK(response.find(parameter(4, "shared_memory_byte_size", number_field(2, 32))) !=
        std::string::npos);
  CHECK(response.find(parameter(4, "shared_memory_offset", number_field(2, 4))) !=
        std::string::npos);
  CHECK(response.ends_with(bytes_field(6, "")));
}

TEST_CASE("inputs in messages and in regions are told apart") {
  Service service;
  service.add("two", {spec("x", DataType::kInt32, {-1}), spec("y", DataType::kInt32, {-1}),
                      spec("z", DataType::kInt32, {-1})});
  const Piece piece(4096);
  service.shared.add_system("r", piece.key(), 0, 4096);
  std::memcpy(piece.data(), "yyyy", 4);
  const auto request = [] {
    return RequestBuilder()
        .model("two")
        .input("x", "INT32", {1})
        .input("y", "INT32", {1}, place(4, "r", 4))
        .input("z", "INT32", {1});
  };
  std::string response;
  REQUIRE(service.call(request().raw("xxxx").raw("zzzz"), &response).ok());
  CHECK(
      response.ends_with(bytes_field(6, "xxxx") + bytes_field(6, "yyyy") + bytes_field(6, "zzzz")));
  CHECK(service.call(request().raw("xxxx").raw("zzzz").raw("more")).message() ==
        "raw_input_contents: expected 2, one for each input that is not shared, got 3");
}

TEST_CASE("strings lie in a region as they lie in a message") {
  Service service;
  service.add("words", {spec("x", DataType::kString, {-1})});
  const Piece piece(4096);
  service.shared.add_system("r", piece.key(), 0, 4096);
  const std::string words = testing::raw_strings({"one", "", std::string("t\0o", 3)});
  std::memcpy(piece.data(), words.data(), words.size());
  const auto request = [&](uint64_t size_bytes, uint64_t room) {
    return RequestBuilder()
        .model("words")
        .input("x", "BYTES", {3}, place(4, "r", size_bytes))
        .output("output_0", place(2, "r", room, 2048));
  };
  REQUIRE(service.call(request(words.size(), 64)).ok());
  CHECK(std::string(piece.data() + 2048, words.size()) == words);
  CHECK(service.call(request(words.size() - 1, 64)).code() == ErrorCode::kInvalidInput);
  CHECK(service.call(request(words.size(), 8)).message() ==
        "shared memory size specified with the request for output 'output_0' (8 bytes) should be "
        "at least " +
            std::to_string(words.size()) + " bytes to hold the results");
}

TEST_CASE("what is not in a region is refused") {
  Service service;
  service.add("one", {spec("x", DataType::kFloat32, {-1, 4})});
  const Piece piece(4096);
  service.shared.add_system("r", piece.key(), 0, 64);
  const auto refused = [&](const std::string& parameters) {
    return service.call(RequestBuilder().model("one").input("x", "FP32", {1, 4}, parameters));
  };
  CHECK(refused(place(4, "r", 16)).ok());
  CHECK(refused(place(4, "s", 16)).to_string() ==
        "ModelNotFound: input 'x': Unable to find shared memory region: 's'");
  CHECK(refused(place(4, "r", 16, 49)).message() ==
        "input 'x': Invalid offset + byte size for shared memory region: 'r': expected them within "
        "its 64 bytes, got 49 and 16");
  CHECK(refused(place(4, "r", 16, UINT64_MAX - 8)).code() == ErrorCode::kInvalidInput);
  CHECK(refused(place(4, "r", 20)).message() ==
        "input 'x': expected 16 bytes for float32[1, 4], got 20");
  CHECK(refused(parameter(4, "shared_memory_region", bytes_field(3, "r"))).message() ==
        "input 'x': expected the parameters 'shared_memory_region' and 'shared_memory_byte_size' "
        "together, got one of them");
  CHECK(refused(parameter(4, "shared_memory_region", number_field(2, 1))).code() ==
        ErrorCode::kInvalidInput);
  CHECK(service
            .call(RequestBuilder()
                      .model("one")
                      .input("x", "FP32", {1, 4}, place(4, "r", 16))
                      .output("output_0", place(2, "s", 16)))
            .to_string() ==
        "ModelNotFound: output 'output_0': Unable to find shared memory region: 's'");
}

TEST_CASE("a region that cannot be is refused, and taken off the list by name and kind") {
  SharedMemory shared;
  const Piece piece(4096);
  shared.add_system("r", piece.key(), 8, 64);
  CHECK(why([&] { shared.add_system("r", piece.key(), 0, 64); }).message() ==
        "shared memory region 'r' already in manager");
  CHECK(why([&] { shared.add_system("", piece.key(), 0, 64); }).code() == ErrorCode::kInvalidInput);
  CHECK(why([&] { shared.add_system("s", "/pyruntime_none", 0, 64); }).message() ==
        "Unable to open shared memory region: '/pyruntime_none': shm_open: No such file or "
        "directory");
  CHECK(why([&] { shared.add_system("s", "../etc/passwd", 0, 64); }).code() ==
        ErrorCode::kInvalidInput);
  CHECK(why([&] { shared.add_system("s", piece.key(), 4000, 97); }).code() ==
        ErrorCode::kInvalidInput);
  CHECK(why([&] { shared.add_system("s", piece.key(), UINT64_MAX, 2); }).code() ==
        ErrorCode::kInvalidInput);
  CHECK(why([&] { shared.add_system("s", piece.key(), 0, 0); }).code() == ErrorCode::kInvalidInput);
  REQUIRE(shared.regions().size() == 1);
  CHECK(shared.regions()[0].offset == 8);
  shared.remove_device("r");
  shared.remove_device("");
  CHECK(shared.has("r"));
  shared.remove_system("s");
  shared.remove_system("r");
  CHECK(!shared.has("r"));
  shared.add_system("r", piece.key(), 0, 64);
  shared.add_system("s", piece.key(), 64, 64);
  shared.remove_system("");
  CHECK(shared.regions().empty());
}

TEST_CASE("a region stays mapped for who uses it when it is taken off the list") {
  Service service;
  service.add("one", {spec("x", DataType::kFloat32, {-1, 4})});
  const Piece piece(4096);
  service.shared.add_system("r", piece.key(), 0, 64);
  std::memcpy(piece.data(), "0123456789abcdef", 16);
  const RequestBuilder request = RequestBuilder()
                                     .model("one")
                                     .input("x", "FP32", {1, 4}, place(4, "r", 16))
                                     .output("output_0", place(2, "r", 16, 32));
  InferCall call(service.registry, &service.shared);
  REQUIRE(call.decode(testing::as_bytes(request.bytes)).ok());
  service.shared.remove_system("r");
  REQUIRE(call.infer().ok());
  CHECK(std::memcmp(piece.data() + 32, "0123456789abcdef", 16) == 0);
}

// --- of a GPU

namespace {

// Memory of the fake GPU that "another process" shares.
class GpuPiece {
 public:
  GpuPiece(DeviceBackend& backend, std::size_t size_bytes)
      : backend_(backend), size_bytes_(size_bytes), address_(backend.allocate(size_bytes)) {
    void* const library = dlopen(cuda::driver().path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    using GetHandle = int (*)(cuda::IpcMemHandle*, cuda::DevicePointer);
    const auto get = reinterpret_cast<GetHandle>(dlsym(library, "cuIpcGetMemHandle"));
    const CudaContext context(cuda::driver(), backend.device().index);
    const CudaContext::Current current(context);
    REQUIRE(get(&handle_, reinterpret_cast<cuda::DevicePointer>(address_)) == 0);
  }
  ~GpuPiece() { backend_.free(address_, size_bytes_); }
  GpuPiece(const GpuPiece&) = delete;
  GpuPiece& operator=(const GpuPiece&) = delete;

  std::span<const std::byte> handle() const { return std::as_bytes(std::span(&handle_, 1)); }
  void write(const std::string& bytes) {
    const auto stream = backend_.create_stream();
    stream->copy(address_, bytes.data(), bytes.size(), CopyKind::kHostToDevice);
    REQUIRE(stream->synchronize().ok());
  }
  std::string read(std::size_t at, std::size_t size) {
    std::string bytes(size, '\0');
    const auto stream = backend_.create_stream();
    stream->copy(bytes.data(), static_cast<std::byte*>(address_) + at, size,
                 CopyKind::kDeviceToHost);
    REQUIRE(stream->synchronize().ok());
    return bytes;
  }

 private:
  DeviceBackend& backend_;
  const std::size_t size_bytes_;
  void* const address_;
  cuda::IpcMemHandle handle_{};
};

ModelOptions on_gpu() {
  ModelOptions options;
  options.instances = {{.device = {DeviceKind::kCuda, 0}, .count = 1}};
  return options;
}

}  // namespace

TEST_CASE("inputs and outputs lie in a region of a GPU") {
  if (test::fake_driver() == nullptr) return;
  DeviceBackend& backend = open_device({DeviceKind::kCuda, 0});
  const uint64_t misuses = test::fake_driver()->misuse_count();
  Service service;
  service.add("one", {spec("x", DataType::kFloat32, {-1, 4})}, 1, on_gpu());
  service.add("host", {spec("x", DataType::kFloat32, {-1, 4})});
  service.add("words", {spec("x", DataType::kString, {-1})});
  GpuPiece piece(backend, 256);
  service.shared.add_device("g", backend.device(), piece.handle(), 256);
  piece.write("0123456789abcdef");
  const auto request = [](const std::string& model, uint64_t room) {
    return RequestBuilder()
        .model(model)
        .input("x", "FP32", {1, 4}, place(4, "g", 16))
        .output("output_0", place(2, "g", room, 128));
  };
  std::string response;
  REQUIRE(service.call(request("one", 16), &response).ok());
  CHECK(piece.read(128, 16) == "0123456789abcdef");
  CHECK(response.find(parameter(4, "shared_memory_region", bytes_field(3, "g"))) !=
        std::string::npos);
  CHECK(response.ends_with(bytes_field(6, "")));

  // One of them in the message.
  REQUIRE(service
              .call(RequestBuilder().model("one").input("x", "FP32", {1, 4}, place(4, "g", 16)),
                    &response)
              .ok());
  CHECK(response.ends_with(bytes_field(6, "0123456789abcdef")));

  CHECK(service.call(request("one", 15)).message() ==
        "output 'output_0': expected memory of at least 16 bytes for float32[1, 4], got 15");
  CHECK(service.call(request("host", 16)).code() == ErrorCode::kInvalidInput);
  CHECK(service.call(RequestBuilder().model("words").input("x", "BYTES", {1}, place(4, "g", 16)))
            .message() == "input 'x': expected strings in memory of the host");
  service.shared.remove_device("g");
  CHECK(test::fake_driver()->misuse_count() == misuses);
}

TEST_CASE("a region of a GPU that cannot be is refused") {
  if (test::fake_driver() == nullptr) return;
  DeviceBackend& backend = open_device({DeviceKind::kCuda, 0});
  SharedMemory shared;
  const GpuPiece piece(backend, 256);
  const auto refusal = [&](Device device, std::span<const std::byte> handle, uint64_t size) {
    return why([&] { shared.add_device("g", device, handle, size); });
  };
  CHECK(refusal(backend.device(), piece.handle().subspan(1), 256).message() ==
        "failed to register shared memory region 'g': invalid args: device 'cuda:0': expected a "
        "cudaIpcMemHandle_t of 64 bytes, got 63");
  const std::vector<std::byte> zeros(64);
  CHECK(refusal(backend.device(), zeros, 256).message().find("cuIpcOpenMemHandle") !=
        std::string::npos);
  CHECK(refusal(backend.device(), piece.handle(), 257)
            .message()
            .find("expected at most the 256 bytes of the handle, got 257") != std::string::npos);
  CHECK(refusal({DeviceKind::kCuda, 7}, piece.handle(), 256).code() == ErrorCode::kUnavailable);
  CHECK(shared.regions().empty());
}

TEST_CASE("a region of a GPU stays mapped for who uses it") {
  if (test::fake_driver() == nullptr) return;
  DeviceBackend& backend = open_device({DeviceKind::kCuda, 0});
  const uint64_t misuses = test::fake_driver()->misuse_count();
  Service service;
  ModelOptions options = on_gpu();
  options.session.config = {{"echo.delay_us", "20000"}};
  service.add("one", {spec("x", DataType::kFloat32, {-1, 4})}, 1, options);
  GpuPiece piece(backend, 256);
  service.shared.add_device("g", backend.device(), piece.handle(), 256);
  piece.write("0123456789abcdef");
  const RequestBuilder request = RequestBuilder()
                                     .model("one")
                                     .input("x", "FP32", {1, 4}, place(4, "g", 16))
                                     .output("output_0", place(2, "g", 16, 128));
  InferCall call(service.registry, &service.shared);
  REQUIRE(call.decode(testing::as_bytes(request.bytes)).ok());
  service.shared.remove_device("g");
  REQUIRE(call.infer().ok());
  CHECK(piece.read(128, 16) == "0123456789abcdef");
  CHECK(test::fake_driver()->misuse_count() == misuses);
}

}  // namespace pyruntime
