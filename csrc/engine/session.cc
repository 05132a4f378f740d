#include "engine/session.h"

#include <algorithm>
#include <array>

namespace pyruntime {

// Each beside its engine.
extern const EngineEntry kOnnxEngine;
extern const EngineEntry kEchoEngine;

namespace {

std::optional<std::size_t> find(const std::vector<TensorSpec>& specs, std::string_view name) {
  const auto found = std::find_if(specs.begin(), specs.end(),
                                  [name](const TensorSpec& spec) { return spec.name == name; });
  if (found == specs.end()) return std::nullopt;
  return static_cast<std::size_t>(found - specs.begin());
}

}  // namespace

std::string TensorSpec::to_string() const {
  std::string text(data_type_name(type));
  if (has_any_rank) return text + "[...]";
  text += '[';
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) text += ", ";
    text += dims[i] < 0 ? "*" : std::to_string(dims[i]);
  }
  return text + ']';
}

std::optional<std::size_t> Signature::find_input(std::string_view name) const {
  return find(inputs, name);
}

std::optional<std::size_t> Signature::find_output(std::string_view name) const {
  return find(outputs, name);
}

bool has_free_rows(const Signature& signature) {
  if (signature.inputs.empty() || signature.outputs.empty()) return false;
  std::string_view rows;  // the one name of dimension 0
  const auto is_free = [&rows](const TensorSpec& spec) {
    if (spec.has_any_rank || spec.dims.empty() || spec.dims[0] != -1) return false;
    if (spec.symbols.empty() || spec.symbols[0].empty()) return true;
    if (rows.empty()) rows = spec.symbols[0];
    return rows == spec.symbols[0];
  };
  return std::all_of(signature.inputs.begin(), signature.inputs.end(), is_free) &&
         std::all_of(signature.outputs.begin(), signature.outputs.end(), is_free);
}

std::span<const EngineEntry> engines() {
  static const std::array table{kOnnxEngine, kEchoEngine};
  return table;
}

std::unique_ptr<Session> load_session(const ModelSource& source, const SessionOptions& options) {
  std::string known;
  for (const EngineEntry& engine : engines()) {
    if (engine.name == options.engine) return engine.load(source, options);
    known.append(known.empty() ? "" : ", ").append(engine.name);
  }
  throw Error(ErrorCode::kInvalidInput,
              "engine '" + options.engine + "': expected one of " + known);
}

}  // namespace pyruntime
