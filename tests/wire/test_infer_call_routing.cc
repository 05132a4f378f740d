// Requests that routes, labels and experiments decide about.
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "wire/echo_service.h"
#include "wire/request_builder.h"

namespace pyruntime {
namespace {

using testing::as_bytes;
using testing::bytes_field;
using testing::EchoService;
using testing::parameter;
using testing::raw;
using testing::RequestBuilder;
using testing::spec;

// Value of the field `number` of InferParameter that is a string.
std::string text(std::string_view value) { return bytes_field(3, value); }

RequestBuilder request() {
  RequestBuilder builder;
  builder.model("echo").id("id-1").input("x", "FP32", {1, 2}).raw(raw(std::vector<float>{1, 2}));
  return builder;
}

void serve(EchoService& service) {
  for (const int64_t version : {1, 2}) {
    service.add("echo", {spec("x", DataType::kFloat32, {-1, 2})}, version);
  }
}

RouteSpec experiment(int first_share) {
  RouteSpec route;
  route.policy = "split";
  route.name = "colours";
  route.arms = {{"red", {1, {}}, first_share}, {"blue", {kLatest, "canary"}, kWhole - first_share}};
  return route;
}

std::string answer_of(EchoService& service, const RequestBuilder& asked) {
  std::string response;
  const Status status = service.call(asked.bytes, &response);
  CHECK_MESSAGE(status.ok(), status.message());
  return response;
}

bool says(const std::string& response, const std::string& field) {
  return response.find(field) != std::string::npos;
}

}  // namespace

TEST_CASE("the answer names version, experiment and arm") {
  EchoService service;
  serve(service);
  const RouteSpec route = experiment(0);
  service.registry.set_routing("echo", {{"canary", 2}}, &route, {});
  const std::string response = answer_of(service, request());
  CHECK(says(response, bytes_field(2, "2")));
  CHECK(says(response, parameter(4, "experiment", text("colours"))));
  CHECK(says(response, parameter(4, "arm", text("blue"))));
  const auto traffic = service.registry.traffic("echo");
  CHECK(traffic->give_reward("id-1", 1).ok());
  CHECK(traffic->stats().arms[1].rewards == 1);
}

TEST_CASE("a call that names its version or a label is not part of the experiment") {
  EchoService service;
  serve(service);
  const RouteSpec route = experiment(0);
  service.registry.set_routing("echo", {{"canary", 2}, {"stable", 1}}, &route, {});
  for (RequestBuilder asked :
       {request().version("1"), request().parameter("label", text("stable"))}) {
    const std::string response = answer_of(service, asked);
    CHECK(says(response, bytes_field(2, "1")));
    CHECK(!says(response, "experiment"));
  }
  CHECK(service.registry.traffic("echo")->stats().arms[1].assigned == 0);
}

TEST_CASE("a key of the request goes before that of its call") {
  EchoService service;
  serve(service);
  const RouteSpec route = experiment(500);
  service.registry.set_routing("echo", {{"canary", 2}}, &route, {});
  for (int i = 0; i < 50; ++i) {
    const std::string key = "user-" + std::to_string(i);
    Decision decision;
    REQUIRE(service.registry.route("echo", {.key = key}, &decision).ok());
    const std::string expected = bytes_field(2, std::to_string(decision.model->version()));
    const std::string in_request = request().parameter("route_key", text(key)).bytes;
    CHECK(says(answer_of(service, request().parameter("route_key", text(key))), expected));
    for (const bool has_parameter : {false, true}) {
      InferCall call(service.registry);
      const std::string of_call = has_parameter ? "somebody" : key;
      call.set_route_key(of_call);
      const std::string bytes = has_parameter ? in_request : request().bytes;
      REQUIRE(call.decode(as_bytes(bytes)).ok());
      REQUIRE(call.infer().ok());
      std::string response(call.response_size(), '\0');
      call.encode(reinterpret_cast<std::byte*>(response.data()));
      CHECK(says(response, expected));
    }
  }
}

TEST_CASE("a refused call is counted as refused") {
  EchoService service;
  serve(service);
  const RouteSpec route = experiment(1000);
  service.registry.set_routing("echo", {}, &route, {});
  RequestBuilder wrong;
  wrong.model("echo").input("x", "FP32", {1, 3}).raw(raw(std::vector<float>{1, 2, 3}));
  CHECK(service.call(wrong.bytes).code() == ErrorCode::kInvalidInput);
  const ArmStatsSnapshot stats = service.registry.traffic("echo")->stats().arms[0];
  CHECK(stats.assigned == 1);
  CHECK(stats.refused == 1);
}

TEST_CASE("calls are answered while versions and routes come and go") {
  EchoService service;
  serve(service);
  std::vector<RouteSpec> routes{experiment(900), experiment(100)};
  routes[1].shadow = ShadowSpec{.target = {1, {}}};
  service.registry.set_routing("echo", {{"canary", 2}}, routes.data(), {});
  std::atomic<bool> over{false};
  std::atomic<int> failed{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 2; ++i) {
    callers.emplace_back([&] {
      while (!over.load(std::memory_order_relaxed)) {
        if (!service.call(request().bytes).ok()) ++failed;
      }
    });
  }
  for (int i = 0; i < 60; ++i) {
    service.registry.set_routing("echo", {{"canary", 2}}, &routes[i % 2], {});
    ModelOptions options;
    options.session.engine = "echo";
    options.session.echo_inputs = {spec("x", DataType::kFloat32, {-1, 2})};
    service.registry.exchange(ModelVersion::load("echo", 1 + i % 2, {}, options))->close();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  over = true;
  for (std::thread& caller : callers) caller.join();
  CHECK(failed == 0);
}

}  // namespace pyruntime
