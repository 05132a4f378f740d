// One ModelInfer call of the protocol for a front end written in Python: bytes
// in, bytes out, everything between them without the GIL.
#include "wire/infer_call.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <pybind11/stl.h>

#include "bindings/completion_queue.h"
#include "bindings/module.h"
#include "bindings/python_errors.h"
#include "bindings/shared_capsule.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

// Threads: infer() and submit() by one, once; cancel() from any.
class PyInferCall {
 public:
  PyInferCall(std::shared_ptr<Registry> registry, std::shared_ptr<SharedMemory> shared)
      : registry_(std::move(registry)),
        shared_(std::move(shared)),
        call_(*registry_, shared_.get()) {}

  py::bytes infer(const py::bytes& request, std::optional<int64_t> timeout_us,
                  std::string route_key) {
    route_key_ = std::move(route_key);
    Status status;
    {
      const std::span<const std::byte> bytes = keep(request);
      const py::gil_scoped_release released;
      status = begin(bytes, timeout_us);
      if (status.ok()) status = call_.infer();
      is_done_.store(true, std::memory_order_release);  // pairs with is_cancelled()
    }
    throw_if_failed(status);
    return encode();
  }

  // self: the Python object that owns this, kept alive until completion.
  py::object submit(const py::object& self, const py::bytes& request,
                    std::optional<int64_t> timeout_us, std::string route_key) {
    route_key_ = std::move(route_key);
    const py::module_ completions = py::module_::import("pyruntime.completions");
    const py::object future = completions.attr("InferFuture")();
    future.attr("bind")(self.attr("_cancel"));
    completion_.queue =
        from_capsule<CompletionQueue>(completions.attr("thread_queue")().attr("capsule").ptr());
    completion_.deliver = &PyInferCall::deliver;
    completion_.owner = this;
    future_ = future;
    self_ = self;
    Status status;
    {
      const std::span<const std::byte> bytes = keep(request);
      const py::gil_scoped_release released;
      status = begin(bytes, timeout_us);
      if (status.ok()) {
        status = call_.submit(
            [](void* context) noexcept {
              auto* call = static_cast<PyInferCall*>(context);
              call->is_done_.store(true, std::memory_order_release);  // pairs with is_cancelled()
              CompletionQueue::push(call->completion_);
            },
            this);
      }
    }
    if (!status.ok()) {
      self_ = py::object();
      future_ = py::object();
      throw_if_failed(status);
    }
    return future;
  }

  void cancel() {
    cancelled_.store(true, std::memory_order_seq_cst);  // against the load in begin(): Dekker
    if (is_under_way_.load(std::memory_order_seq_cst)) call_.cancel();
  }

  bool cancel_future() {
    {
      const py::gil_scoped_release released;
      cancel();
    }
    return is_done_.load(std::memory_order_acquire) &&
           call_.status().code() == ErrorCode::kCancelled;
  }

  std::string id() const { return is_decoded() ? std::string(call_.id()) : std::string(); }
  std::string model_name() const {
    return is_decoded() ? std::string(call_.model_name()) : std::string();
  }
  std::string model_version() const {
    return is_decoded() ? std::string(call_.model_version()) : std::string();
  }

 private:
  bool is_decoded() const { return is_decoded_.load(std::memory_order_acquire); }

  std::span<const std::byte> keep(const py::bytes& request) {
    if (std::exchange(is_used_, true)) {
      throw Error(ErrorCode::kInvalidInput, "InferCall: expected one request, got a second");
    }
    request_ = request;
    const std::string_view bytes = request;
    return std::as_bytes(std::span(bytes.data(), bytes.size()));
  }

  Status begin(std::span<const std::byte> bytes, std::optional<int64_t> timeout_us) {
    call_.set_route_key(route_key_);
    Status status = call_.decode(bytes);
    is_decoded_.store(true, std::memory_order_release);  // pairs with is_decoded()
    if (!status.ok()) return status;
    if (timeout_us) {
      call_.set_deadline(SteadyClock::instance().now() + std::chrono::microseconds(*timeout_us));
    }
    is_under_way_.store(true, std::memory_order_seq_cst);  // against cancel(): Dekker
    if (cancelled_.load(std::memory_order_seq_cst)) {
      return {ErrorCode::kCancelled,
              "model '" + std::string(call_.model_name()) + "': cancelled before it ran"};
    }
    return status;
  }

  py::bytes encode() {
    const std::size_t size_bytes = call_.response_size();
    py::bytes response(nullptr, size_bytes);
    char* const data = PyBytes_AS_STRING(response.ptr());
    const py::gil_scoped_release released;  // nobody else has seen `response`
    call_.encode(reinterpret_cast<std::byte*>(data));
    return response;
  }

  // By the thread of pyruntime.completions, with the GIL.
  static void deliver(Completion* completion) {
    auto* const call = static_cast<PyInferCall*>(completion->owner);
    const py::object self = std::exchange(call->self_, py::object());  // destroyed last
    const py::object future = std::exchange(call->future_, py::object());
    try {
      const Status& status = call->call_.status();
      if (status.ok()) {
        future.attr("deliver")(call->encode(), py::none());
      } else {
        const auto error = py::reinterpret_steal<py::object>(make_exception(status));
        if (!error) throw py::error_already_set();
        future.attr("deliver")(py::none(), error);
      }
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("pyruntime.InferCall");
    } catch (const std::exception& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
      PyErr_WriteUnraisable(self.ptr());
    }
  }

  const std::shared_ptr<Registry> registry_;
  const std::shared_ptr<SharedMemory> shared_;
  InferCall call_;
  py::bytes request_;
  std::string route_key_;
  bool is_used_ = false;

  std::atomic<bool> cancelled_{false};
  std::atomic<bool> is_decoded_{false};    // id and model name can be read
  std::atomic<bool> is_under_way_{false};  // call_.cancel() may be called
  std::atomic<bool> is_done_{false};       // call_.status() is final

  // Of submit().
  Completion completion_;
  py::object self_;
  py::object future_;
};

}  // namespace

void bind_infer_call(py::module_& module) {
  py::class_<PyInferCall>(module, "InferCall",
                          "One ModelInfer call: request bytes in, response bytes out. Used once.")
      .def(py::init<std::shared_ptr<Registry>, std::shared_ptr<SharedMemory>>(),
           py::arg("registry"), py::arg("shared_memory") = py::none())
      .def("infer", &PyInferCall::infer, py::arg("request"), py::arg("timeout_us") = py::none(),
           py::arg("route_key") = "",
           "Run a serialised ModelInferRequest and wait; returns the ModelInferResponse. "
           "route_key: where the request has no such parameter. Raises the errors of "
           "pyruntime.errors.")
      .def(
          "submit",
          [](const py::object& self, const py::bytes& request, std::optional<int64_t> timeout_us,
             std::string route_key) {
            return self.cast<PyInferCall&>().submit(self, request, timeout_us,
                                                    std::move(route_key));
          },
          py::arg("request"), py::arg("timeout_us") = py::none(), py::arg("route_key") = "",
          "As infer, but returns a Future of the response. Overloaded and bad requests raise here.")
      .def("cancel", &PyInferCall::cancel, py::call_guard<py::gil_scoped_release>(),
           "Give up, from any thread, before, during or after.")
      .def("_cancel", &PyInferCall::cancel_future)
      .def_property_readonly("id", &PyInferCall::id, "The request's id, '' until it is known.")
      .def_property_readonly("model_name", &PyInferCall::model_name,
                             "The model asked for, '' until it is known.")
      .def_property_readonly("model_version", &PyInferCall::model_version,
                             "The version asked for, '' where that is none.");
}

}  // namespace pyruntime
