#include "engine/onnx_api.h"

#include <array>
#include <charconv>

namespace pyruntime::ort {
namespace {

constexpr std::string_view kInstall =
    "install a newer one, for example: pip install -U 'pyruntime[cpu]'";

// "1.32.0" -> {1, 32, 0}; what is not a number counts as 0.
std::array<int, 3> parse_version(std::string_view text) {
  std::array<int, 3> numbers{};
  const char* position = text.data();
  const char* const end = text.data() + text.size();
  for (int& number : numbers) {
    position = std::from_chars(position, end, number).ptr;
    if (position == end || *position != '.') break;
    ++position;
  }
  return numbers;
}

}  // namespace

void check_version(std::string_view version, std::string_view path) {
  if (parse_version(version) >= parse_version(kMinimumVersion)) return;
  throw Error(ErrorCode::kUnavailable, "ONNX Runtime at '" + std::string(path) +
                                           "': expected version " + std::string(kMinimumVersion) +
                                           " or later, got " + std::string(version) + "; " +
                                           std::string(kInstall));
}

Api resolve_api(const ApiBase& base, std::string_view path) {
  const char* version = base.GetVersionString();
  check_version(version, path);
  const auto* slots = static_cast<void* const*>(base.GetApi(kApiVersion));
  if (slots == nullptr) {
    throw Error(ErrorCode::kUnavailable, "ONNX Runtime at '" + std::string(path) + "': version " +
                                             version + " does not offer version " +
                                             std::to_string(kApiVersion) + " of its interface; " +
                                             std::string(kInstall));
  }
  Api functions;
#define PYRUNTIME_RESOLVE(slot, name, returns, parameters) \
  functions.name = reinterpret_cast<decltype(functions.name)>(slots[slot]);
  PYRUNTIME_ONNX_FUNCTIONS(PYRUNTIME_RESOLVE)
#undef PYRUNTIME_RESOLVE
  return functions;
}

std::string take_message(OrtStatus* status) {
  std::string message = api().GetErrorMessage(status);
  api().ReleaseStatus(status);
  return message;
}

void check(OrtStatus* status, std::string_view call, std::string_view where, ErrorCode code) {
  if (status == nullptr) return;
  std::string message(where);
  message.append(": ").append(call).append(": ").append(take_message(status));
  throw Error(code, std::move(message));
}

}  // namespace pyruntime::ort
