// pyruntime.config.ModelOptions as the core's ModelOptions. The dataclass has
// checked its values; here only what the core alone knows is checked.
#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "bindings/module.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

using TextPairs = std::vector<std::pair<std::string, std::string>>;

TextPairs to_pairs(py::handle mapping) {
  TextPairs pairs;
  for (const py::handle item : mapping.attr("items")()) {
    pairs.push_back(item.cast<std::pair<std::string, std::string>>());
  }
  return pairs;
}

DataType to_data_type(const std::string& name) {
  for (int i = 0; i < kDataTypeCount; ++i) {
    const auto type = static_cast<DataType>(i);
    if (data_type_name(type) == name) return type;
  }
  throw Error(ErrorCode::kInvalidInput,
              "dtype: expected one such as 'float32', got '" + name + "'");
}

TensorSpec to_spec(py::handle spec) {
  TensorSpec result;
  result.name = spec.attr("name").cast<std::string>();
  result.type = to_data_type(spec.attr("dtype").cast<std::string>());
  result.dims = spec.attr("shape").cast<std::vector<int64_t>>();
  result.symbols = spec.attr("symbols").cast<std::vector<std::string>>();
  result.symbols.resize(result.dims.size());
  return result;
}

GraphOptimization to_graph_optimization(const std::string& name) {
  if (name == "none") return GraphOptimization::kNone;
  if (name == "basic") return GraphOptimization::kBasic;
  if (name == "extended") return GraphOptimization::kExtended;
  return GraphOptimization::kAll;
}

SessionOptions to_session_options(py::handle options) {
  SessionOptions session;
  session.engine = options.attr("engine").cast<std::string>();
  for (const py::handle provider : options.attr("providers")) {
    session.providers.push_back(
        {provider.attr("name").cast<std::string>(), to_pairs(provider.attr("options"))});
  }
  session.graph_optimization =
      to_graph_optimization(options.attr("graph_optimization").cast<std::string>());
  session.intra_op_threads = options.attr("intra_op_threads").cast<int>();
  session.inter_op_threads = options.attr("inter_op_threads").cast<int>();
  session.use_global_pool = options.attr("use_global_pool").cast<bool>();
  session.allow_spinning = options.attr("allow_spinning").cast<bool>();
  session.use_arena = options.attr("use_arena").cast<bool>();
  session.config = to_pairs(options.attr("config"));
  for (const py::handle spec : options.attr("echo_inputs")) {
    session.echo_inputs.push_back(to_spec(spec));
  }
  return session;
}

PaddingOptions to_padding(py::handle padding) {
  PaddingOptions result;
  result.dim = padding.attr("dim").cast<std::string>();
  result.value = padding.attr("value").cast<double>();
  for (const py::handle item : padding.attr("values").attr("items")()) {
    result.values.push_back(item.cast<std::pair<std::string, double>>());
  }
  result.outputs = padding.attr("outputs").cast<std::vector<std::string>>();
  result.sizes = padding.attr("sizes").cast<std::vector<int64_t>>();
  result.largest = padding.attr("largest").cast<int64_t>();
  return result;
}

std::optional<Overlap> to_overlap(const std::string& name) {
  const auto* const found = std::ranges::find(kOverlapNames, name);
  if (found == kOverlapNames.end()) return std::nullopt;
  return static_cast<Overlap>(found - kOverlapNames.begin());
}

Priority to_priority(py::handle name) {
  const auto text = name.cast<std::string>();
  if (text == "high") return Priority::kHigh;
  return text == "low" ? Priority::kLow : Priority::kNormal;
}

}  // namespace

ModelOptions to_model_options(py::handle options) {
  ModelOptions result;
  result.session = to_session_options(options);
  const py::object batching = options.attr("batching");
  const py::object max_rows = batching.attr("max_rows");
  result.batching.max_rows = py::isinstance<py::str>(max_rows) ? 0 : max_rows.cast<int64_t>();
  result.batching.max_delay =
      std::chrono::microseconds(batching.attr("max_delay_us").cast<int64_t>());
  result.batching.queue_capacity = batching.attr("queue_capacity").cast<int>();
  result.batching.queue_rows = batching.attr("queue_rows").cast<int64_t>();
  result.batching.queue_bytes = batching.attr("queue_bytes").cast<int64_t>();
  result.batching.request_rows = batching.attr("request_rows").cast<int64_t>();
  result.batching.queue_timeout =
      std::chrono::microseconds(batching.attr("queue_timeout_us").cast<int64_t>());
  result.batching.default_priority = to_priority(batching.attr("default_priority"));
  for (const py::handle padding : batching.attr("padding")) {
    result.batching.padding.push_back(to_padding(padding));
  }
  result.instances.clear();
  for (const py::handle group : options.attr("instances")) {
    result.instances.push_back(
        {Device::parse(group.attr("device").cast<std::string>()), group.attr("count").cast<int>()});
  }
  result.pool_capacity_bytes = options.attr("pool_capacity_bytes").cast<std::size_t>();
  result.stuck_after = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(options.attr("stuck_after_s").cast<double>()));
  result.overlap = to_overlap(options.attr("overlap").cast<std::string>());
  result.graph_rows = options.attr("cuda_graphs").cast<std::vector<int64_t>>();
  result.lock_pages = options.attr("lock_pages").cast<bool>();
  return result;
}

}  // namespace pyruntime
