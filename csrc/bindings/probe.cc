// pyruntime._probe, first part: the steps of the overhead ledger that no Python may be in.
#include "bindings/probe.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/module.h"
#include "bindings/shared_capsule.h"
#include "probe/bare_run.h"
#include "probe/closed_loop.h"
#include "probe/slice.h"
#include "wire/infer_call.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

// (dtype, shape, bytes; of strings a list of bytes)
py::tuple to_tuple(const Tensor& tensor) {
  if (tensor.data == nullptr && tensor.size_bytes() != 0) {
    throw Error(ErrorCode::kUnimplemented,
                "outputs that the model does not set: there is nothing to compare");
  }
  py::object data;
  if (tensor.type == DataType::kString) {
    py::list strings;
    const auto* elements = tensor.data_as<const StringRef>();
    for (std::size_t i = 0; i < tensor.size_bytes() / sizeof(StringRef); ++i) {
      strings.append(py::bytes(elements[i].data, elements[i].size_bytes));
    }
    data = std::move(strings);
  } else {
    data = py::bytes(tensor.data_as<const char>(), tensor.size_bytes());
  }
  return py::make_tuple(std::string(data_type_name(tensor.type)),
                        py::tuple(py::cast(std::vector<int64_t>(tensor.shape.dims().begin(),
                                                                tensor.shape.dims().end()))),
                        data);
}

// (requests, ns that they took together, ns of each or of a sample)
py::tuple to_tuple(const Slice& slice) {
  return py::make_tuple(
      slice.requests, slice.elapsed_ns,
      py::array_t<int64_t>(static_cast<py::ssize_t>(slice.times_ns.size()), slice.times_ns.data()));
}

// Both outlive every measurement, and are let go without the GIL.
class PyBareRun {
 public:
  PyBareRun(std::shared_ptr<const BareSession> session, std::shared_ptr<const Inputs> inputs)
      : inputs_(std::move(inputs)), run_(std::move(session), inputs_->tensors()) {}

  py::tuple measure(double seconds) {
    Slice slice;
    {
      const py::gil_scoped_release released;
      slice = measure_one_by_one(to_ns(seconds), run_);
    }
    return to_tuple(slice);
  }

  py::list outputs() {
    py::list result;
    run_.see_outputs([&](const Tensor& tensor) { result.append(to_tuple(tensor)); });
    return result;
  }

 private:
  const std::shared_ptr<const Inputs> inputs_;
  BareRun run_;
};

constexpr std::size_t kSampledTimes = 4096;

class PyCore {
 public:
  PyCore(const py::capsule& model, std::shared_ptr<const Inputs> inputs)
      : model_(released_without_gil(from_capsule<ModelVersion>(model.ptr()))),
        inputs_(std::move(inputs)) {}

  // One caller blocks; more are a closed loop without threads of their own.
  py::tuple measure(std::size_t in_flight, double seconds) {
    Slice slice;
    {
      const py::gil_scoped_release released;
      if (in_flight == 1) {
        slice = measure_one_by_one(to_ns(seconds), [&] {
          model_->infer(make_request(*model_, inputs_->tensors())).throw_if_failed();
        });
      } else {
        ModelSender sender(*model_, inputs_->tensors());
        const LoadResult result =
            ClosedLoop<>(sender, {.in_flight = in_flight}).measure(to_ns(seconds));
        slice = {result.requests, result.elapsed_ns, result.latency.sample(kSampledTimes)};
      }
    }
    return to_tuple(slice);
  }

  py::list outputs() {
    const RequestRef request = make_request(*model_, inputs_->tensors());
    {
      const py::gil_scoped_release released;
      model_->infer(request).throw_if_failed();
    }
    py::list result;
    for (const Tensor& output : request->outputs) result.append(to_tuple(output));
    return result;
  }

 private:
  const std::shared_ptr<ModelVersion> model_;
  const std::shared_ptr<const Inputs> inputs_;
};

// A clock read costs some 20 ns, so that several calls are timed together
// unless the model takes so long that it does not show.
constexpr std::size_t kCallsAtOnce = 16;
constexpr auto kLongCall = std::chrono::milliseconds(1);

// ns to decode `request`, a ModelInferRequest, and to encode its response.
Slice measure_codec_of(const Registry& registry, std::span<const std::byte> request,
                       Nanoseconds time) {
  Slice slice;
  std::vector<std::byte> response;
  std::size_t at_once = kCallsAtOnce;
  const TimePoint begin = steady_now();
  do {
    std::vector<std::unique_ptr<InferCall>> calls(at_once);
    for (auto& call : calls) call = std::make_unique<InferCall>(registry);
    const TimePoint at_decode = steady_now();
    for (auto& call : calls) call->decode(request).throw_if_failed();
    const TimePoint decoded = steady_now();
    std::size_t done = 0;
    while (done < calls.size() && steady_now() - decoded < kLongCall) {
      calls[done++]->infer().throw_if_failed();
    }
    response.resize(calls.front()->response_size());
    const TimePoint at_encode = steady_now();
    for (std::size_t i = 0; i < done; ++i) {
      if (calls[i]->response_size() > response.size()) {
        response.resize(calls[i]->response_size());  // strings need not be as long each time
      }
      calls[i]->encode(response.data());
    }
    const TimePoint encoded = steady_now();
    const auto each = [](Nanoseconds sum, std::size_t n) { return sum.count() / int64_t(n); };
    slice.times_ns.push_back(each(decoded - at_decode, calls.size()) +
                             each(encoded - at_encode, done));
    slice.requests += static_cast<int64_t>(done);
    if (done < at_once) at_once = 1;
  } while (steady_now() - begin < time);
  slice.elapsed_ns = (steady_now() - begin).count();
  return slice;
}

py::tuple measure_codec(const py::capsule& registry, const py::bytes& request, double seconds) {
  const auto shared = from_capsule<Registry>(registry.ptr());
  const std::string_view bytes = request;
  Slice slice;
  {
    const py::gil_scoped_release released;
    slice = measure_codec_of(*shared, std::as_bytes(std::span(bytes.data(), bytes.size())),
                             to_ns(seconds));
  }
  return to_tuple(slice);
}

std::shared_ptr<BareSession> load_bare_session(const std::string& path, py::handle options) {
  const ModelOptions model_options = to_model_options(options);
  const py::gil_scoped_release released;
  return std::make_shared<BareSession>(path, model_options.session);
}

}  // namespace
}  // namespace pyruntime

PYBIND11_MODULE(_probe, module) {
  using namespace pyruntime;
  module.doc() = "Load generators and the steps of the overhead ledger that no Python may be in.";
  bind_errors(module);
  py::class_<Inputs, std::shared_ptr<Inputs>>(module, "Inputs", "The inputs of one request.")
      .def(
          py::init<const std::vector<std::tuple<std::string, std::vector<int64_t>, py::object>>&>(),
          py::arg("tensors"));
  py::class_<BareSession, std::shared_ptr<BareSession>>(module, "BareSession",
                                                        "ONNX Runtime alone.")
      .def(py::init(&load_bare_session), py::arg("path"), py::arg("options"));
  py::class_<PyBareRun>(module, "BareRun", "C Run on fixed values.")
      .def(py::init([](std::shared_ptr<BareSession> session, std::shared_ptr<Inputs> inputs) {
             return std::make_unique<PyBareRun>(std::move(session), std::move(inputs));
           }),
           py::arg("session"), py::arg("inputs"))
      .def("measure", &PyBareRun::measure, py::arg("seconds"))
      .def("outputs", &PyBareRun::outputs);
  py::class_<PyCore>(module, "Core", "The core, called from C++.")
      .def(py::init([](const py::capsule& model, std::shared_ptr<Inputs> inputs) {
             return std::make_unique<PyCore>(model, std::move(inputs));
           }),
           py::arg("model"), py::arg("inputs"))
      .def("measure", &PyCore::measure, py::arg("in_flight"), py::arg("seconds"))
      .def("outputs", &PyCore::outputs);
  bind_load(module);
  bind_floors(module);
  module.def("measure_codec", &measure_codec, py::arg("registry"), py::arg("request"),
             py::arg("seconds"));
}
