// pyruntime._probe, second part: load generators, and what they are tried on.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/module.h"
#include "bindings/probe.h"
#include "bindings/shared_capsule.h"
#include "probe/closed_loop.h"
#include "probe/grpc_load.h"
#include "probe/grpc_responder.h"
#include "probe/open_loop.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

using Times = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;

std::vector<Nanoseconds> to_durations(const Times& times) {
  std::vector<Nanoseconds> durations;
  durations.reserve(static_cast<std::size_t>(times.size()));
  for (py::ssize_t i = 0; i < times.size(); ++i) durations.emplace_back(times.data()[i]);
  return durations;
}

std::vector<uint8_t> to_vector(std::string_view bytes) { return {bytes.begin(), bytes.end()}; }

// (counts by bucket, min ns, max ns, sum ns), or None of nothing.
py::object to_object(const LatencyHistogram& histogram) {
  py::dict counts;
  const std::vector<int64_t> all = histogram.counts();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] != 0) counts[py::int_(i)] = all[i];
  }
  if (counts.empty()) return py::none();
  return py::make_tuple(counts, histogram.min_ns(), histogram.max_ns(), histogram.sum_ns());
}

py::dict to_dict(const LoadResult& result) {
  py::dict errors;
  for (std::size_t i = 0; i < kErrorCodeCount; ++i) {
    if (result.errors[i] != 0) {
      errors[py::str(std::string(error_code_name(static_cast<ErrorCode>(i))))] = result.errors[i];
    }
  }
  py::dict dict;
  dict["requests"] = result.requests;
  dict["elapsed_ns"] = result.elapsed_ns;
  dict["latency"] = to_object(result.latency);
  dict["service"] = to_object(result.service);
  dict["lag"] = to_object(result.lag);
  dict["errors"] = errors;
  dict["peak_in_flight"] = result.peak_in_flight;
  dict["generator_cpu_ns"] = result.generator_cpu_ns;
  dict["first_error"] = result.first_error;
  dict["ended"] = result.ended;
  return dict;
}

template <typename Measure>
py::dict without_gil(Measure&& measure) {
  LoadResult result;
  {
    const py::gil_scoped_release released;
    result = measure();
  }
  return to_dict(result);
}

template <typename Sender>
LoadResult closed_loop(Sender& sender, std::size_t in_flight, Nanoseconds time) {
  return ClosedLoop<Sender>(
             sender, {.in_flight = in_flight, .timed_one_in = 1, .goes_on_after_failure = true})
      .measure(time);
}

// A blocking caller, which may run the model itself.
LoadResult one_caller(ModelVersion& model, std::span<const Tensor> inputs, Nanoseconds time) {
  LoadResult result;
  const TimePoint begin = steady_now();
  TimePoint last = begin;
  do {
    const Status status = model.infer(make_request(model, inputs));
    const TimePoint now = steady_now();
    if (status.ok()) {
      ++result.requests;
      result.latency.add((now - last).count());
    } else {
      result.count_error(status.code());
      if (result.first_error.empty()) result.first_error = status.message();
    }
    last = now;
  } while (last - begin < time);
  result.elapsed_ns = (last - begin).count();
  return result;
}

// Of a model in this process.
class PyModelLoad {
 public:
  PyModelLoad(const py::capsule& model, std::shared_ptr<const Inputs> inputs)
      : model_(released_without_gil(from_capsule<ModelVersion>(model.ptr()))),
        inputs_(std::move(inputs)) {}

  // One caller blocks; more are a closed loop without threads of their own.
  py::dict closed(std::size_t in_flight, double seconds) {
    return without_gil([&] {
      if (in_flight == 1) return one_caller(*model_, inputs_->tensors(), to_ns(seconds));
      ModelSender sender(*model_, inputs_->tensors());
      return closed_loop(sender, in_flight, to_ns(seconds));
    });
  }

  py::dict open(const Times& times, double seconds) {
    const std::vector<Nanoseconds> arrivals = to_durations(times);
    return without_gil([&] {
      ModelSender sender(*model_, inputs_->tensors());
      return OpenLoop<>(sender).measure(arrivals, to_ns(seconds));
    });
  }

 private:
  const std::shared_ptr<ModelVersion> model_;
  const std::shared_ptr<const Inputs> inputs_;
};

// What the generators of this process can do at most.
py::dict null_closed(std::size_t in_flight, double seconds) {
  return without_gil([&] {
    NullSender sender;
    return closed_loop(sender, in_flight, to_ns(seconds));
  });
}

py::dict null_open(const Times& times, double seconds) {
  const std::vector<Nanoseconds> arrivals = to_durations(times);
  return without_gil([&] {
    NullSender sender;
    return OpenLoop<NullSender>(sender).measure(arrivals, to_ns(seconds));
  });
}

class PyGrpcLoad {
 public:
  PyGrpcLoad(std::string address, std::string path, std::string_view message, std::size_t threads,
             std::size_t connections, double connect_s, double patience_s)
      : load_(
            {.address = std::move(address),
             .path = std::move(path),
             .threads = threads,
             .connections = connections,
             .connect_limit =
                 std::chrono::duration_cast<std::chrono::milliseconds>(to_ns(connect_s)),
             .patience = std::chrono::duration_cast<std::chrono::milliseconds>(to_ns(patience_s))},
            to_vector(message)) {}

  py::dict closed(std::size_t in_flight, double seconds) {
    return without_gil([&] { return load_.closed(in_flight, to_ns(seconds)); });
  }
  py::dict open(const Times& times, double seconds) {
    const std::vector<Nanoseconds> arrivals = to_durations(times);
    return without_gil([&] { return load_.open(arrivals, to_ns(seconds)); });
  }

 private:
  GrpcLoad load_;
};

std::unique_ptr<GrpcResponder, void (*)(GrpcResponder*)> make_responder(
    std::string_view message, const Times& delays_ns, double stall_s, double stall_period_s,
    int status, int64_t dies_after) {
  GrpcResponder::Options options{.delays = to_durations(delays_ns),
                                 .stall = to_ns(stall_s),
                                 .stall_period = to_ns(stall_period_s),
                                 .status = status,
                                 .dies_after = dies_after};
  return {new GrpcResponder(std::move(options), to_vector(message)), [](GrpcResponder* responder) {
            const py::gil_scoped_release released;
            delete responder;
          }};
}

// Lets its owner end it before the interpreter does.
class PyResponder {
 public:
  PyResponder(std::string_view message, const Times& delays_ns, double stall_s,
              double stall_period_s, int status, int64_t dies_after)
      : responder_(make_responder(message, delays_ns, stall_s, stall_period_s, status, dies_after)),
        address_(responder_->address()) {}

  const std::string& address() const { return address_; }
  py::object held() const { return responder_ ? to_object(responder_->held()) : py::none(); }
  void close() { responder_.reset(); }

 private:
  std::unique_ptr<GrpcResponder, void (*)(GrpcResponder*)> responder_;
  const std::string address_;
};

}  // namespace

void bind_load(py::module_& module) {
  py::class_<PyModelLoad>(module, "ModelLoad", "Load on a model in this process.")
      .def(py::init([](const py::capsule& model, std::shared_ptr<Inputs> inputs) {
             return std::make_unique<PyModelLoad>(model, std::move(inputs));
           }),
           py::arg("model"), py::arg("inputs"))
      .def("closed", &PyModelLoad::closed, py::arg("in_flight"), py::arg("seconds"))
      .def("open", &PyModelLoad::open, py::arg("times_ns"), py::arg("seconds"));
  module.def("null_closed", &null_closed, py::arg("in_flight"), py::arg("seconds"));
  module.def("null_open", &null_open, py::arg("times_ns"), py::arg("seconds"));
  py::class_<PyGrpcLoad>(module, "GrpcLoad", "Load on a server of gRPC.")
      .def(py::init<std::string, std::string, std::string_view, std::size_t, std::size_t, double,
                    double>(),
           py::arg("address"), py::arg("path"), py::arg("message"), py::arg("threads"),
           py::arg("connections"), py::arg("connect_s"), py::arg("patience_s"))
      .def("closed", &PyGrpcLoad::closed, py::arg("in_flight"), py::arg("seconds"))
      .def("open", &PyGrpcLoad::open, py::arg("times_ns"), py::arg("seconds"));
  py::class_<PyResponder>(module, "GrpcResponder", "A server that answers as it was told.")
      .def(py::init<std::string_view, const Times&, double, double, int, int64_t>(),
           py::arg("message"), py::arg("delays_ns"), py::arg("stall_s"), py::arg("stall_period_s"),
           py::arg("status"), py::arg("dies_after"))
      .def_property_readonly("address", &PyResponder::address)
      .def("held", &PyResponder::held)
      .def("close", &PyResponder::close);
}

}  // namespace pyruntime
