#include "memory/device.h"

#include <array>
#include <charconv>

namespace pyruntime {

// Each is defined in the backend's own file.
extern const BackendEntry kCpuBackend;
extern const BackendEntry kSimulatedBackend;
extern const BackendEntry kCudaBackend;

namespace {

std::span<const BackendEntry> table() {
  static const std::array entries{
      kCpuBackend,
      kSimulatedBackend,
      kCudaBackend,
  };
  return entries;
}

const BackendEntry& entry_of(DeviceKind kind) {
  for (const BackendEntry& entry : table()) {
    if (entry.kind == kind) return entry;
  }
  throw Error(ErrorCode::kInvalidInput,
              "device: no backend of kind " + std::to_string(static_cast<int>(kind)));
}

}  // namespace

Device Device::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const BackendEntry& entry : table()) {
    if (entry.name != name) continue;
    if (colon == std::string_view::npos) return {entry.kind, 0};
    const std::string_view digits = text.substr(colon + 1);
    int16_t index = -1;
    const auto [end, error] = std::from_chars(digits.begin(), digits.end(), index);
    if (error == std::errc() && end == digits.end() && index >= 0) return {entry.kind, index};
  }
  std::string expected;
  for (const BackendEntry& entry : table()) {
    expected.append(expected.empty() ? "'" : ", '").append(entry.name).append("'");
  }
  throw Error(ErrorCode::kInvalidInput,
              "device: expected one of " + expected +
                  ", with ':' and an index where there are several, got '" + std::string(text) +
                  "'");
}

std::string Device::name() const {
  std::string text(entry_of(kind).name);
  if (kind != DeviceKind::kCpu || index != 0) text += ":" + std::to_string(index);
  return text;
}

Status DeviceBackend::record_foreign(void*, Event&) {
  return {ErrorCode::kUnimplemented,
          "device '" + device().name() + "': it has no streams of other owners"};
}

void* DeviceBackend::open_shared(std::span<const std::byte>, std::size_t) {
  throw Error(ErrorCode::kUnimplemented,
              "device '" + device().name() + "': it has no memory of other processes");
}

void DeviceBackend::close_shared(void*) noexcept {}

std::span<const BackendEntry> device_backends() { return table(); }

DeviceBackend& open_device(Device device) {
  const BackendEntry& entry = entry_of(device.kind);
  const int count = entry.device_count();
  if (device.index >= 0 && device.index < count) return entry.open(device.index);
  const std::string reason = entry.why_absent();
  throw Error(ErrorCode::kUnavailable,
              "device '" + device.name() + "': " +
                  (reason.empty() ? "expected an index below " + std::to_string(count) : reason));
}

}  // namespace pyruntime
