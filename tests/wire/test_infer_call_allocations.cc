// Counts every allocation of this thread through the global operator new.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "wire/echo_service.h"
#include "wire/request_builder.h"

namespace {
thread_local uint64_t allocations = 0;

void* counted(std::size_t size, std::size_t alignment) {
  ++allocations;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Not inlined: GCC would see memory from new given to free().
[[gnu::noinline]] void release(void* memory) { std::free(memory); }
}  // namespace

void* operator new(std::size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new[](std::size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace pyruntime {
namespace {

using testing::as_bytes;
using testing::EchoService;
using testing::RequestBuilder;
using testing::spec;

uint64_t allocations_of_a_call(EchoService& service, const std::string& request) {
  std::vector<std::byte> response(4096);
  const auto call = [&] {
    InferCall one(service.registry);
    REQUIRE(one.decode(as_bytes(request)).ok());
    REQUIRE(one.infer().ok());
    REQUIRE(one.response_size() <= response.size());
    one.encode(response.data());
  };
  for (int i = 0; i < 100; ++i) call();
  const uint64_t before = allocations;
  for (int i = 0; i < 1000; ++i) call();
  return (allocations - before) / 1000;
}

TEST_CASE("a call allocates nothing in the steady state") {
  EchoService service;
  service.add("f", {spec("x", DataType::kFloat32, {-1, 64})});
  service.add("i", {spec("x", DataType::kInt64, {-1, 4})});
  service.add("s", {spec("x", DataType::kString, {-1})});
  const std::string row(256, '\0');
  for (std::size_t shift = 0; shift < 4; ++shift) {  // of the contents, so that some are misaligned
    CHECK(allocations_of_a_call(service, RequestBuilder()
                                             .model("f")
                                             .id(std::string(shift, 'i'))
                                             .input("x", "FP32", {1, 64})
                                             .raw(row)
                                             .bytes) == 0);
  }
  const std::string numbers = testing::packed_varints<int64_t>(3, {1, -2, 3, INT64_MAX});
  CHECK(allocations_of_a_call(service,
                              RequestBuilder()
                                  .model("i")
                                  .input("x", "INT64", {1, 4}, testing::bytes_field(5, numbers))
                                  .bytes) == 0);
  CHECK(allocations_of_a_call(service, RequestBuilder()
                                           .model("s")
                                           .input("x", "BYTES", {2})
                                           .raw(testing::raw_strings({"a", "b"}))
                                           .bytes) == 0);
}

// A request that says it is large must not cost more than one that is.
TEST_CASE("what is refused for its size has allocated little before") {
  EchoService service;
  service.add("f", {spec("x", DataType::kFloat32, {-1})});
  const std::string request =
      RequestBuilder().model("f").input("x", "FP32", {int64_t{1} << 40}).raw("1234").bytes;
  CHECK_FALSE(service.call(request).ok());
  const uint64_t before = allocations;
  CHECK_FALSE(service.call(request).ok());
  CHECK(allocations > before);  // the words of the refusal
  CHECK(allocations - before < 50);
}

}  // namespace
TEST_CASE("a call by an experiment with a shadow allocates nothing either") {
  EchoService service;
  for (const int64_t version : {1, 2}) {
    service.add("echo", {spec("x", DataType::kFloat32, {-1, 4})}, version);
  }
  RouteSpec route;
  route.policy = "thompson";
  route.name = "colours";
  route.arms = {{"red", {1, {}}, 0}, {"blue", {1, {}}, 0}};
  route.shadow = ShadowSpec{.target = {2, {}}};
  service.registry.set_routing("echo", {}, &route, {});
  const std::string request = RequestBuilder()
                                  .model("echo")
                                  .id("id-1")
                                  .input("x", "FP32", {1, 4})
                                  .raw(std::string(16, '\0'))
                                  .bytes;
  // Jobs get memory when they are first used.
  for (std::size_t i = 0; i < 4 * ShadowRunner::kJobs; ++i) {
    CHECK(service.call(request).ok());
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  CHECK(allocations_of_a_call(service, request) == 0);
}

}  // namespace pyruntime
