#include <string>

#include <doctest/doctest.h>

#include "memory/device.h"
#include "memory/device_simulated.h"

using namespace pyruntime;

TEST_CASE("a device's name parses to the same device") {
  for (const char* text : {"cpu", "simulated:0", "simulated:1", "cuda:0", "cuda:7"}) {
    CHECK(Device::parse(text).name() == text);
  }
  CHECK(Device::parse("simulated") == Device{DeviceKind::kSimulated, 0});
  CHECK(Device::parse("cpu:0") == Device{});
}

TEST_CASE("a text that names no device is refused with what was expected") {
  for (const char* text :
       {"", "gpu", "cpu:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999", ":0", "CPU", "cuda: 1"}) {
    CAPTURE(text);
    try {
      Device::parse(text);
      FAIL_CHECK("expected an Error");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kInvalidInput);
      const std::string what = error.what();
      CHECK(what.find("'simulated'") != std::string::npos);
      CHECK(what.find("got '" + std::string(text) + "'") != std::string::npos);
    }
  }
}

TEST_CASE("a backend is present or says why not") {
  for (const BackendEntry& entry : device_backends()) {
    CAPTURE(std::string(entry.name));
    CHECK((entry.device_count() > 0) == entry.why_absent().empty());
    for (int i = 0; i < entry.device_count(); ++i) {
      const Device device{entry.kind, static_cast<int16_t>(i)};
      CHECK(open_device(device).device() == device);
      CHECK(&open_device(device) == &open_device(device));
    }
  }
}

TEST_CASE("a device that is not there cannot be opened, and the error says why") {
  for (const BackendEntry& entry : device_backends()) {
    const auto past_the_end = static_cast<int16_t>(entry.device_count());
    for (const int16_t index : {past_the_end, int16_t{-1}}) {
      try {
        open_device({entry.kind, index});
        FAIL_CHECK("expected an Error");
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::kUnavailable);
        const std::string what = error.what();
        CHECK(what.find(std::string(entry.name)) != std::string::npos);
        CHECK(what.find(entry.why_absent()) != std::string::npos);
      }
    }
  }
}

TEST_CASE("there are two simulated devices with separate settings") {
  CHECK(kSimulatedDevices == 2);
  CHECK_THROWS_AS(set_simulated_faults(2, {}), Error);
  CHECK_THROWS_AS(simulated_misuse_count(-1), Error);
}
