// Requests of unequal lengths through a whole model of the echo engine, whose outputs have the
// names of its inputs' dimensions and so are cut back.
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "memory/faulty_devices.h"
#include "schedule/echo_model.h"
#include "schedule/padding.h"

namespace pyruntime {
namespace {

PaddingOptions along(const std::string& dim) {
  PaddingOptions padding;
  padding.dim = dim;
  return padding;
}

EchoSettings text_model(PaddingOptions padding = along("length")) {
  EchoSettings settings;
  settings.inputs = {"ids", "mask"};
  settings.dims = {-1, -1};
  settings.symbols = {"rows", "length"};
  settings.batching.padding.push_back(std::move(padding));
  return settings;
}

// [rows, length], counting from `first`.
Numbers counted(int64_t rows, int64_t length, int64_t first) {
  std::vector<int64_t> values(static_cast<std::size_t>(rows * length));
  values.reserve(1);  // an address even where there are none
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<int64_t>(i);
  return {std::move(values), Shape{rows, length}};
}

struct Sent {
  Numbers ids;
  Numbers mask;
  RequestRef request;
};

std::unique_ptr<Sent> send(ModelVersion& model, int64_t rows, int64_t length, int64_t first) {
  auto sent = std::make_unique<Sent>(
      Sent{counted(rows, length, first), counted(rows, length, -first), model.new_request()});
  sent->request->inputs[0] = sent->ids.view();
  sent->request->inputs[1] = sent->mask.view();
  REQUIRE(model.submit(sent->request).ok());
  return sent;
}

void check_answer(const Sent& sent) {
  sent.request->wait();
  REQUIRE_MESSAGE(sent.request->status.ok(), sent.request->status.message());
  CHECK(sent.request->outputs[0].shape == sent.ids.shape);
  CHECK(answer(*sent.request) == sent.ids.values);
  const Tensor& mask = sent.request->outputs[1];
  CHECK(mask.shape == sent.mask.shape);
  const auto* const first = mask.data_as<int64_t>();
  CHECK(std::vector<int64_t>(first, first + sent.mask.values.size()) == sent.mask.values);
}

// Answers of requests of many lengths at once, and how many batches they took.
uint64_t run_many(ModelVersion& model, int64_t lengths) {
  const uint64_t before = model.stats().batches;
  std::vector<std::unique_ptr<Sent>> all;
  for (int64_t i = 0; i < 48; ++i) {
    all.push_back(send(model, 1 + i % 3, 1 + i % lengths, 1000 * (i + 1)));
  }
  for (const auto& sent : all) check_answer(*sent);
  return model.stats().batches - before;
}

}  // namespace

TEST_CASE("requests of unequal lengths share batches, and each gets its own length back") {
  for (const Device device : test::a_device_of_each_kind()) {
    CAPTURE(device.name());
    EchoSettings settings = text_model();
    settings.instances = {{device, 1}};
    settings.config = {{"echo.delay_us", "2000"}};
    const auto model = load_echo(settings);
    CHECK(run_many(*model, 8) < 20);
    require_conserved(model->stats());
  }
}

TEST_CASE("results too large for bound memory are cut back too") {
  EchoSettings settings = text_model();
  settings.config = {{"echo.delay_us", "2000"}};
  const auto model = load_echo(settings);
  std::vector<std::unique_ptr<Sent>> all;
  for (int64_t i = 0; i < 24; ++i) all.push_back(send(*model, 2, 1700 + 7 * i, 100000 * (i + 1)));
  for (const auto& sent : all) check_answer(*sent);
  CHECK(model->stats().batches < 12);
}

TEST_CASE("only lengths of one padded size share a batch") {
  EchoSettings settings = text_model();
  settings.batching.padding[0].sizes = {4, 16};
  settings.config = {{"echo.delay_us", "1000"}};
  const auto model = load_echo(settings);
  run_many(*model, 20);
  std::vector<int64_t> lengths;
  for (const auto& cost : model->costs()) {
    if (!cost.tails.empty()) lengths.push_back(cost.tails[0][0]);
  }
  std::sort(lengths.begin(), lengths.end());
  CHECK(lengths == std::vector<int64_t>{4, 16, 17, 18, 19, 20});  // beyond the sizes: their own
}

TEST_CASE("the value given for an input fills it") {
  // A run that meets the value fails: so the value must have been there.
  EchoSettings settings = text_model();
  settings.batching.padding[0].values = {{"ids", 77}};
  settings.config = {{"echo.fail_value", "77"}};
  const auto model = load_echo(settings);
  const auto sent = send(*model, 1, 5, 1);
  check_answer(*sent);  // failed when padded, and ran again as it is
  CHECK(model->stats().batches == 1);
  // What failed padded is not padded so again.
  check_answer(*send(*model, 1, 5, 1));
  check_answer(*send(*model, 1, 4, 1));
}

TEST_CASE("a batch that fails when padded runs again, each request as it is") {
  EchoSettings settings = text_model();
  settings.batching.padding[0].value = -1;
  settings.config = {{"echo.fail_value", "-1"}, {"echo.delay_us", "1000"}};
  const auto model = load_echo(settings);
  run_many(*model, 7);
  require_conserved(model->stats());
  CHECK(model->stats().failed == 0);
}

TEST_CASE("lengths that differ between inputs are refused by name") {
  const auto model = load_echo(text_model());
  Numbers ids = counted(2, 5, 1);
  Numbers mask = counted(2, 6, 1);
  const RequestRef request = model->new_request();
  request->inputs[0] = ids.view();
  request->inputs[1] = mask.view();
  const Status status = model->submit(request);
  CHECK(status.code() == ErrorCode::kInvalidInput);
  CHECK(status.message() ==
        "input 'mask': expected 5 along 'length' (dimension 1) as in input 'ids', got 6");
}

TEST_CASE("no rows and no length are lengths too") {
  const auto model = load_echo(text_model());
  check_answer(*send(*model, 0, 5, 1));
  check_answer(*send(*model, 3, 0, 1));
}

TEST_CASE("a dimension by place is padded, and outputs are cut where it is said") {
  EchoSettings settings = text_model(along("input.1"));
  settings.inputs = {"input"};
  settings.symbols = {};
  settings.batching.padding[0].outputs = {"output_0.1"};
  settings.config = {{"echo.delay_us", "1000"}};
  const auto model = load_echo(settings);
  std::vector<Numbers> numbers;
  std::vector<RequestRef> requests;
  for (int64_t i = 0; i < 12; ++i) numbers.push_back(counted(1, 5 + i % 3, i));
  for (Numbers& one : numbers) {
    requests.push_back(ask(*model, one));
    REQUIRE(model->submit(requests.back()).ok());
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i]->wait();
    REQUIRE(requests[i]->status.ok());
    CHECK(requests[i]->outputs[0].shape == numbers[i].shape);
    CHECK(answer(*requests[i]) == numbers[i].values);
  }
  CHECK(model->stats().batches < 6);
}

TEST_CASE("options that do not fit the model are refused by name") {
  const auto with = [](auto&& change) {
    EchoSettings settings = text_model();
    change(settings.batching.padding[0]);
    return load_refusal(settings);
  };
  const std::string label = "model 'echo' version 1: batching.padding ";
  CHECK(with([](auto& padding) { padding.dim = "width"; }) ==
        label +
            "'width': expected a free dimension of the inputs ('length'), got none of that name");
  CHECK(with([](auto& padding) { padding.dim = "rows"; }) ==
        label + "'rows': expected a dimension other than the rows");
  CHECK(with([](auto& padding) { padding.value = 0.5; }) ==
        label + "'length': expected a value of int64 for input 'ids', got 0.500000");
  CHECK(with([](auto& padding) { padding.sizes = {8, 8}; }) ==
        label + "'length': sizes: expected ascending ones of at least 1");
  CHECK(with([](auto& padding) { padding.values = {{"idz", 1}}; }) ==
        label + "'length': values: expected an input with this dimension, got 'idz'");
  CHECK(with([](auto& padding) { padding.outputs = {"output_0.7"}; }) ==
        label + "'length': outputs: expected OUTPUT.AXIS of a free dimension, got 'output_0.7'");
  EchoSettings twice = text_model();
  twice.batching.padding.push_back(along("ids.1"));
  CHECK(load_refusal(twice) == label + "'ids.1': is padded twice");
  EchoSettings fixed = text_model();
  fixed.dims = {3, -1};
  CHECK(load_refusal(fixed).find("expected a model whose rows can be batched") !=
        std::string::npos);
}

}  // namespace pyruntime
