// pyruntime._probe, third part: the lower floors by themselves, each with what
// one would take instead. Every function does its work so many times and returns
// the ns that all of it took.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <queue>
#include <string>
#include <vector>

#include <pybind11/stl.h>

#include "base/bounded_queue.h"
#include "bindings/module.h"
#include "bindings/probe.h"
#include "bindings/shared_capsule.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"
#include "memory/device.h"
#include "probe/sender.h"
#include "probe/slice.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

// Keeps the compiler from leaving out what makes `value`.
template <typename T>
void keep(T const& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

template <typename Work>
int64_t time_of(int64_t times, Work&& work) {
  const py::gil_scoped_release released;
  const TimePoint begin = steady_now();
  for (int64_t i = 0; i < times; ++i) work(i);
  return (steady_now() - begin).count();
}

// A push and a pop, with nobody else there.
int64_t queue(int64_t times) {
  BoundedQueue<int64_t> ring(1024);
  return time_of(times, [&](int64_t i) {
    int64_t popped = 0;
    if (!ring.try_push(i) || !ring.try_pop(popped)) std::abort();
    keep(popped);
  });
}

int64_t mutex_queue(int64_t times) {
  std::mutex mutex;
  std::queue<int64_t> values;
  return time_of(times, [&](int64_t i) {
    {
      const std::lock_guard lock(mutex);
      values.push(i);
    }
    const std::lock_guard lock(mutex);
    keep(values.front());
    values.pop();
  });
}

// A block taken and given back.
int64_t pool(int64_t times, std::size_t size_bytes) {
  BufferPool blocks(open_device(Device{}), BufferPool::Options{});
  return time_of(times, [&](int64_t) {
    const Buffer block = blocks.allocate(size_bytes, nullptr);
    keep(block.data());
  });
}

int64_t system_memory(int64_t times, std::size_t size_bytes) {
  return time_of(times, [&](int64_t) {
    void* const block = std::aligned_alloc(64, (size_bytes + 63) / 64 * 64);
    keep(block);
    std::free(block);
  });
}

// A run of a session, on a stream and into memory that is there already.
class PySession {
 public:
  PySession(const std::string& path, py::handle options, std::shared_ptr<const Inputs> inputs)
      : inputs_(std::move(inputs)),
        session_(load_session({.path = path}, to_model_options(options).session)),
        stream_(open_device(Device{}).create_stream()) {}

  int64_t run(int64_t times) {
    const std::size_t count = session_->signature().outputs.size();
    return time_of(times, [&](int64_t) {
      std::vector<Tensor> outputs(count);
      session_->run(*stream_, inputs_->tensors(), outputs, kAllOutputs).throw_if_failed();
      keep(outputs);
    });
  }

 private:
  const std::shared_ptr<const Inputs> inputs_;
  const std::unique_ptr<Session> session_;
  const std::unique_ptr<Stream> stream_;
};

// A request of a blocking caller through batcher and scheduler.
int64_t batcher(int64_t times, const py::capsule& capsule, const Inputs& inputs) {
  const auto model = from_capsule<ModelVersion>(capsule.ptr());
  return time_of(times, [&](int64_t) {
    model->infer(make_request(*model, inputs.tensors())).throw_if_failed();
  });
}

}  // namespace

void bind_floors(py::module_& module) {
  module.def("queue_ns", &queue, py::arg("times"));
  module.def("mutex_queue_ns", &mutex_queue, py::arg("times"));
  module.def("pool_ns", &pool, py::arg("times"), py::arg("size_bytes"));
  module.def("system_memory_ns", &system_memory, py::arg("times"), py::arg("size_bytes"));
  module.def("batcher_ns", &batcher, py::arg("times"), py::arg("model"), py::arg("inputs"));
  py::class_<PySession>(module, "Session", "A session, without a scheduler.")
      .def(
          py::init([](const std::string& path, py::handle options, std::shared_ptr<Inputs> inputs) {
            return std::make_unique<PySession>(path, options, std::move(inputs));
          }),
          py::arg("path"), py::arg("options"), py::arg("inputs"))
      .def("run_ns", &PySession::run, py::arg("times"));
}

}  // namespace pyruntime
