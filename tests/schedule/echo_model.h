// A model of the echo engine and requests to it, for tests of what is above.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "serving/model.h"

namespace pyruntime {

struct EchoSettings {
  std::vector<std::string> inputs = {"input"};
  std::vector<int64_t> dims = {-1, 4};  // of each; they are of int64
  std::vector<std::string> symbols;     // of the dimensions
  BatchingOptions batching;
  std::vector<InstanceGroup> instances = {InstanceGroup{}};
  std::vector<std::pair<std::string, std::string>> config;
  std::optional<Overlap> overlap;
  std::vector<int64_t> graph_rows;
  std::chrono::nanoseconds stuck_after = std::chrono::seconds(30);
};

inline std::shared_ptr<ModelVersion> load_echo(const EchoSettings& settings = {},
                                               int64_t version = 1) {
  ModelOptions options;
  options.session.engine = "echo";
  options.session.config = settings.config;
  for (const std::string& name : settings.inputs) {
    TensorSpec& input = options.session.echo_inputs.emplace_back();
    input.name = name;
    input.type = DataType::kInt64;
    input.dims = settings.dims;
    input.symbols = settings.symbols;
    input.symbols.resize(settings.dims.size());
  }
  options.batching = settings.batching;
  options.instances = settings.instances;
  options.overlap = settings.overlap;
  options.graph_rows = settings.graph_rows;
  options.stuck_after = settings.stuck_after;
  options.pool_capacity_bytes = std::size_t{64} << 20;
  return ModelVersion::load("echo", version, {}, options);
}

// Of a load that is refused.
inline std::string load_refusal(const EchoSettings& settings) {
  try {
    load_echo(settings);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kInvalidInput);
    return error.what();
  }
  return "accepted";
}

// int64 values with their shape; must outlive the request that views them.
struct Numbers {
  Numbers(std::vector<int64_t> of, Shape shaped) : values(std::move(of)), shape(shaped) {}
  Tensor view() {
    Tensor tensor;
    tensor.type = DataType::kInt64;
    tensor.shape = shape;
    tensor.data = reinterpret_cast<std::byte*>(values.data());
    return tensor;
  }
  std::vector<int64_t> values;
  Shape shape;
};

// `rows` rows of 4 numbers, counting from `first`.
inline Numbers rows_of_four(int64_t rows, int64_t first) {
  std::vector<int64_t> values(static_cast<std::size_t>(rows) * 4);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<int64_t>(i);
  return {std::move(values), Shape{rows, 4}};
}

inline RequestRef ask(ModelVersion& model, Numbers& numbers) {
  RequestRef request = model.new_request();
  request->inputs[0] = numbers.view();
  return request;
}

inline std::vector<int64_t> answer(const Request& request) {
  const Tensor& output = request.outputs[0];
  const auto count = static_cast<std::size_t>(output.shape.element_count().value_or(0));
  const auto* first = output.data_as<int64_t>();
  return {first, first + count};
}

inline void require_conserved(const SchedulerStatsSnapshot& stats) {
  CHECK(stats.accepted == stats.completed + stats.failed + stats.cancelled);
}

}  // namespace pyruntime
