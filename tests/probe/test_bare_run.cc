// The engine alone, one run after the other.
#include <array>
#include <chrono>
#include <vector>

#include <doctest/doctest.h>

#include "engine/onnx_fixture.h"
#include "probe/bare_run.h"
#include "probe/slice.h"

namespace pyruntime {

using namespace std::chrono_literals;

TEST_CASE("requests one by one run at least once, and their times fill the slice") {
  int runs = 0;
  Slice slice = measure_one_by_one(Nanoseconds(0), [&] { ++runs; });
  CHECK(runs == 1);
  slice = measure_one_by_one(2ms, [&] { ++runs; });
  CHECK(slice.requests == runs - 1);
  int64_t sum_ns = 0;
  for (const int64_t time_ns : slice.times_ns) sum_ns += time_ns;
  CHECK(sum_ns == slice.elapsed_ns);
  CHECK(slice.elapsed_ns >= Nanoseconds(2ms).count());
}

TEST_CASE("a bare run answers as the engine does, again and again") {
  if (!has_onnx_library()) return;
  const auto session =
      std::make_shared<const BareSession>(model_path("identity_f32"), SessionOptions{});
  std::vector<float> values(32, 0.25F);
  const std::array<Tensor, 1> inputs = {view({2, 16}, values)};
  BareRun run(session, inputs);
  for (const float value : {0.5F, 0.75F}) {
    values.assign(values.size(), value);
    run();
    run.see_outputs([&](const Tensor& output) {
      CHECK(output.shape == Shape{2, 16});
      CHECK(elements<float>(output) == values);
    });
  }
}

}  // namespace pyruntime
