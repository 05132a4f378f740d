#include "engine/onnx_session.h"

#include <string_view>
#include <utility>

#include "engine/onnx_environment.h"
#include "engine/onnx_placement.h"
#include "engine/onnx_providers.h"
#include "engine/onnx_session_options.h"

namespace pyruntime::ort {
namespace {

// EngineError, with the library's text, where it refuses.
Status try_to_create(const ModelSource& source, const OrtSessionOptions* options,
                     OrtEnv* environment, const std::string& label, Session* made) {
  OrtSession* session = nullptr;
  const bool has_bytes = !source.bytes.empty();
  OrtStatus* const status =
      has_bytes ? api().CreateSessionFromArray(environment, source.bytes.data(),
                                               source.bytes.size(), options, &session)
                : api().CreateSession(environment, source.path.c_str(), options, &session);
  made->reset(session);
  if (status == nullptr) return {};
  const std::string call = has_bytes ? "CreateSessionFromArray" : "CreateSession";
  return {ErrorCode::kEngineError, label + ": " + call + ": " + take_message(status)};
}

// The library has no number for this refusal.
bool is_about_fallback(std::string_view text) {
  return text.find("fallback to CPU EP has been explicitly disabled") != std::string_view::npos;
}

std::string join_names(const std::vector<ProviderOptions>& providers) {
  std::string text;
  for (const ProviderOptions& provider : providers) {
    text.append(text.empty() ? "'" : ", '").append(provider.name).append("'");
  }
  return text;
}

}  // namespace

Session create_session(const ModelSource& source, const pyruntime::SessionOptions& options,
                       const std::string& label) {
  OrtEnv* const environment = ort::environment(options.use_global_pool);
  const SessionOptions made = make_session_options(options, source);
  Session session;
  Status status = try_to_create(source, made.get(), environment, label, &session);
  if (status.ok()) return session;
  if (!is_about_fallback(status.message())) throw Error(std::move(status));

  // The refusal does not say which nodes: a session that may use the CPU tells.
  check(api().AddSessionConfigEntry(made.get(), kDisableCpuFallback, "0"), "AddSessionConfigEntry");
  if (!try_to_create(source, made.get(), environment, label, &session).ok()) {
    throw Error(std::move(status));
  }
  const std::string nodes = describe_nodes_of(read_placement(session.get()), kCpuProvider);
  throw Error(ErrorCode::kEngineError,
              label + ": nodes fall back to the CPU, which is not among the providers " +
                  join_names(providers_on(options.device, options.providers)) + ": " + nodes +
                  "; to allow it, name provider 'cpu' last");
}

}  // namespace pyruntime::ort
