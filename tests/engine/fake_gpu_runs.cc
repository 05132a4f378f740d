#include "engine/fake_gpu_runs.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <dlfcn.h>

namespace pyruntime::ort {
namespace {

// The calls of the driver that runs make, each on a thread of the caller's.
struct Driver {
  int (*retain)(void** context, int device);
  int (*get_current)(void** context);
  int (*set_current)(void* context);
  int (*allocate)(uintptr_t* address, std::size_t size_bytes);
  int (*free)(uintptr_t address);
  int (*read)(void* to, uintptr_t from, std::size_t size_bytes, void* stream);
  int (*write)(uintptr_t to, const void* from, std::size_t size_bytes, void* stream);
  int (*synchronize)(void* stream);
};

const Driver& driver() {
  static const Driver found = [] {
    const char* path = std::getenv("PYRUNTIME_CUDA_DRIVER");
    if (path == nullptr) path = std::getenv("PYRUNTIME_TEST_CUDA_DRIVER");
    void* const library = dlopen(path == nullptr ? "libcuda.so.1" : path, RTLD_NOW);
    if (library == nullptr) std::abort();
    Driver calls{};
    const auto find = [&](auto* call, const char* name) {
      *call = reinterpret_cast<std::remove_pointer_t<decltype(call)>>(dlsym(library, name));
    };
    find(&calls.retain, "cuDevicePrimaryCtxRetain");
    find(&calls.get_current, "cuCtxGetCurrent");
    find(&calls.set_current, "cuCtxSetCurrent");
    find(&calls.allocate, "cuMemAlloc_v2");
    find(&calls.free, "cuMemFree_v2");
    find(&calls.read, "cuMemcpyDtoHAsync_v2");
    find(&calls.write, "cuMemcpyHtoDAsync_v2");
    find(&calls.synchronize, "cuStreamSynchronize");
    return calls;
  }();
  return found;
}

struct OnDevice {
  explicit OnDevice(int device) {
    void* context = nullptr;
    driver().retain(&context, device);
    driver().get_current(&before);
    driver().set_current(context);
  }
  ~OnDevice() { driver().set_current(before); }
  void* before = nullptr;
};

// A tensor in device memory.
struct Place {
  uintptr_t address = 0;
  std::size_t size_bytes = 0;
  std::vector<int64_t> dims;
  int type = 0;
  bool is_owned = false;
};

struct Bound {
  std::string name;
  Place place{};             // address 0: the provider's to allocate
  OrtValue* made = nullptr;  // then
};

struct Binding {
  const OrtSession* session = nullptr;
  std::vector<Bound> inputs;
  std::vector<Bound> outputs;
  bool is_on_device() const { return !inputs.empty() || !outputs.empty(); }
};

struct SessionFacts {
  int device = 0;
  void* stream = nullptr;
  bool captures = false;
};

struct RunFacts {
  int graph = 0;
  bool waits = true;
};

using GraphKey = std::tuple<const OrtSession*, std::thread::id, int>;

struct State {
  Api real;
  OrtStatus* (*allocate)(OrtAllocator*, std::size_t, void**) = nullptr;
  OrtMemoryInfo* cpu = nullptr;

  std::mutex mutex;
  // Guarded by the mutex.
  std::map<const OrtMemoryInfo*, int> device_infos;  // and which device
  std::map<const OrtValue*, Place> values;
  std::map<const OrtIoBinding*, Binding> bindings;
  std::map<const OrtSession*, SessionFacts> sessions;
  std::map<const OrtRunOptions*, RunFacts> runs;
  std::map<GraphKey, Binding> graphs;
};

State& state() {
  static State& instance = *new State;
  return instance;
}

std::size_t element_bytes(int type) {
  switch (type) {
    case 7:   // int64
    case 11:  // float64
      return 8;
    case 2:  // uint8
    case 3:  // int8
    case 9:  // bool
      return 1;
    default:
      return 4;
  }
}

std::size_t size_of(const std::vector<int64_t>& dims, int type) {
  std::size_t bytes = element_bytes(type);
  for (const int64_t dim : dims) bytes *= static_cast<std::size_t>(dim);
  return bytes;
}

// --- what is known of objects

OrtStatus* create_memory_info(const char* name, int allocator, int device, int memory,
                              OrtMemoryInfo** made) {
  OrtStatus* const status = state().real.CreateMemoryInfo(name, allocator, device, memory, made);
  if (status == nullptr && std::string_view(name) == "Cuda") {
    const std::lock_guard lock(state().mutex);
    state().device_infos[*made] = device;
  }
  return status;
}

void release_memory_info(OrtMemoryInfo* info) {
  {
    const std::lock_guard lock(state().mutex);
    state().device_infos.erase(info);
  }
  state().real.ReleaseMemoryInfo(info);
}

OrtStatus* create_tensor(const OrtMemoryInfo* info, void* data, std::size_t size_bytes,
                         const int64_t* dims, std::size_t rank, int type, OrtValue** value) {
  OrtStatus* const status =
      state().real.CreateTensorWithDataAsOrtValue(info, data, size_bytes, dims, rank, type, value);
  const std::lock_guard lock(state().mutex);
  if (status == nullptr && state().device_infos.contains(info)) {
    state().values[*value] = {.address = reinterpret_cast<uintptr_t>(data),
                              .size_bytes = size_bytes,
                              .dims = {dims, dims + rank},
                              .type = type};
  }
  return status;
}

void release_value(OrtValue* value) {
  Place place;
  {
    const std::lock_guard lock(state().mutex);
    if (const auto found = state().values.find(value); found != state().values.end()) {
      place = found->second;
      state().values.erase(found);
    }
  }
  state().real.ReleaseValue(value);
  if (!place.is_owned) return;
  const OnDevice current(0);
  driver().free(place.address);
}

OrtStatus* add_run_config(OrtRunOptions* options, const char* key, const char* value) {
  {
    const std::lock_guard lock(state().mutex);
    RunFacts& facts = state().runs[options];
    const std::string_view name(key);
    if (name == "gpu_graph_id") facts.graph = std::atoi(value);
    if (name == "disable_synchronize_execution_providers") facts.waits = value[0] != '1';
  }
  return state().real.AddRunConfigEntry(options, key, value);
}

void release_run_options(OrtRunOptions* options) {
  {
    const std::lock_guard lock(state().mutex);
    state().runs.erase(options);
  }
  state().real.ReleaseRunOptions(options);
}

OrtStatus* create_binding(OrtSession* session, OrtIoBinding** made) {
  OrtStatus* const status = state().real.CreateIoBinding(session, made);
  const std::lock_guard lock(state().mutex);
  if (status == nullptr) state().bindings[*made].session = session;
  return status;
}

void release_binding(OrtIoBinding* binding) {
  {
    const std::lock_guard lock(state().mutex);
    state().bindings.erase(binding);
  }
  state().real.ReleaseIoBinding(binding);
}

// Whether the value is on a device, and is now bound in `list`.
bool bind_place(const OrtIoBinding* binding, std::vector<Bound> Binding::* list, const char* name,
                const OrtValue* value) {
  const std::lock_guard lock(state().mutex);
  const auto found = state().values.find(value);
  if (found == state().values.end()) return false;
  (state().bindings[binding].*list).push_back({.name = name, .place = found->second});
  return true;
}

OrtStatus* bind_input(OrtIoBinding* binding, const char* name, const OrtValue* value) {
  if (bind_place(binding, &Binding::inputs, name, value)) return nullptr;
  return state().real.BindInput(binding, name, value);
}

OrtStatus* bind_output(OrtIoBinding* binding, const char* name, const OrtValue* value) {
  if (bind_place(binding, &Binding::outputs, name, value)) return nullptr;
  return state().real.BindOutput(binding, name, value);
}

OrtStatus* bind_output_to(OrtIoBinding* binding, const char* name, const OrtMemoryInfo* info) {
  {
    const std::lock_guard lock(state().mutex);
    if (state().device_infos.contains(info)) {
      state().bindings[binding].outputs.push_back({.name = name});
      return nullptr;
    }
  }
  return state().real.BindOutputToDevice(binding, name, info);
}

// --- runs

OrtStatus* failed(const char* call, int result) {
  return result == 0 ? nullptr
                     : fail(kFail, std::string("fake CUDA provider: ") + call + ": " +
                                       std::to_string(result));
}

// Values of the CPU; releases them.
struct HostValues {
  std::vector<OrtValue*> values;
  ~HostValues() {
    for (OrtValue* value : values) {
      if (value != nullptr) state().real.ReleaseValue(value);
    }
  }
};

OrtStatus* write_output(const SessionFacts& facts, const OrtValue* value, Bound* output) {
  const Api& real = state().real;
  int type = 0;
  const int64_t* dims = nullptr;
  std::size_t rank = 0;
  void* data = nullptr;
  if (OrtStatus* status =
          real.GetTensorElementTypeAndShapeDataReference(value, &type, &dims, &rank)) {
    return status;
  }
  if (OrtStatus* status = real.GetTensorMutableData(const_cast<OrtValue*>(value), &data)) {
    return status;
  }
  Place place{.address = output->place.address, .dims = {dims, dims + rank}, .type = type};
  place.size_bytes = size_of(place.dims, type);
  if (place.address != 0 && place.dims != output->place.dims) {
    return fail(kInvalidArgument, "OrtValue shape verification failed");
  }
  if (place.address == 0) {
    if (OrtStatus* status =
            failed("cuMemAlloc",
                   driver().allocate(&place.address, std::max<std::size_t>(place.size_bytes, 1)))) {
      return status;
    }
    place.is_owned = true;
    const std::lock_guard lock(state().mutex);
    const OrtMemoryInfo* info = nullptr;
    for (const auto& [known, device] : state().device_infos) {
      if (device == facts.device) info = known;
    }
    if (OrtStatus* status = real.CreateTensorWithDataAsOrtValue(
            info, reinterpret_cast<void*>(place.address), place.size_bytes, dims, rank, type,
            &output->made)) {
      return status;
    }
    state().values[output->made] = place;
  }
  if (place.size_bytes == 0) return nullptr;
  return failed("cuMemcpyHtoDAsync",
                driver().write(place.address, data, place.size_bytes, facts.stream));
}

OrtStatus* compute(OrtSession* session, const SessionFacts& facts, Binding* binding) {
  const Api& real = state().real;
  const OnDevice current(facts.device);
  std::vector<std::vector<std::byte>> memory;
  std::vector<const char*> input_names;
  HostValues inputs;
  for (const Bound& input : binding->inputs) {
    auto& bytes = memory.emplace_back(std::max<std::size_t>(input.place.size_bytes, 1));
    if (input.place.size_bytes != 0) {
      // Into memory that is not page-locked: waits for the stream.
      if (OrtStatus* status =
              failed("cuMemcpyDtoHAsync", driver().read(bytes.data(), input.place.address,
                                                        input.place.size_bytes, facts.stream))) {
        return status;
      }
    }
    input_names.push_back(input.name.c_str());
    if (OrtStatus* status = real.CreateTensorWithDataAsOrtValue(
            state().cpu, bytes.data(), input.place.size_bytes, input.place.dims.data(),
            input.place.dims.size(), input.place.type, &inputs.values.emplace_back(nullptr))) {
      return status;
    }
  }
  std::vector<const char*> output_names;
  for (const Bound& output : binding->outputs) output_names.push_back(output.name.c_str());
  HostValues outputs;
  outputs.values.resize(output_names.size());
  if (OrtStatus* status =
          real.Run(session, nullptr, input_names.data(), inputs.values.data(), input_names.size(),
                   output_names.data(), output_names.size(), outputs.values.data())) {
    return status;
  }
  for (std::size_t i = 0; i < outputs.values.size(); ++i) {
    if (OrtStatus* status = write_output(facts, outputs.values[i], &binding->outputs[i])) {
      return status;
    }
  }
  return nullptr;
}

OrtStatus* run_with_binding(OrtSession* session, const OrtRunOptions* options,
                            const OrtIoBinding* binding) {
  Binding bound;
  SessionFacts facts;
  RunFacts run;
  std::string line = "run";
  {
    const std::lock_guard lock(state().mutex);
    bound = state().bindings[binding];
    facts = state().sessions[session];
    run = state().runs[options];
    if (bound.is_on_device() && facts.captures && run.graph >= 0) {
      const GraphKey key(session, std::this_thread::get_id(), run.graph);
      const auto [graph, is_new] = state().graphs.try_emplace(key, bound);
      bound = graph->second;
      line = (is_new ? "capture " : "replay ") + std::to_string(run.graph);
    }
  }
  if (!bound.is_on_device()) return state().real.RunWithBinding(session, options, binding);
  log_line(line);
  if (OrtStatus* status = compute(session, facts, &bound)) return status;
  if (run.waits) {
    const OnDevice current(facts.device);
    if (OrtStatus* status = failed("cuStreamSynchronize", driver().synchronize(facts.stream))) {
      return status;
    }
  }
  const std::lock_guard lock(state().mutex);
  state().bindings[binding].outputs = bound.outputs;
  return nullptr;
}

OrtStatus* get_bound_outputs(const OrtIoBinding* binding, OrtAllocator* allocator,
                             OrtValue*** values, std::size_t* count) {
  Binding bound;
  {
    const std::lock_guard lock(state().mutex);
    bound = state().bindings[binding];
  }
  if (!bound.is_on_device()) {
    return state().real.GetBoundOutputValues(binding, allocator, values, count);
  }
  *count = bound.outputs.size();
  void* memory = nullptr;
  if (OrtStatus* status = state().allocate(
          allocator, std::max<std::size_t>(*count, 1) * sizeof(OrtValue*), &memory)) {
    return status;
  }
  *values = static_cast<OrtValue**>(memory);
  for (std::size_t i = 0; i < *count; ++i) (*values)[i] = bound.outputs[i].made;
  return nullptr;
}

}  // namespace

void note_session(const OrtSession* session, const std::string& options) {
  SessionFacts facts;
  std::istringstream words(options);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (key == "device_id") facts.device = std::atoi(value.c_str());
    if (key == "enable_cuda_graph") facts.captures = value == "1";
    if (key == "user_compute_stream") {
      facts.stream = reinterpret_cast<void*>(std::strtoull(value.c_str(), nullptr, 10));
    }
  }
  const std::lock_guard lock(state().mutex);
  state().sessions[session] = facts;
}

void forget_session(const OrtSession* session) {
  const std::lock_guard lock(state().mutex);
  std::size_t graphs = 0;
  std::erase_if(state().graphs, [&](const auto& entry) {
    graphs += std::get<0>(entry.first) == session ? 1 : 0;
    return std::get<0>(entry.first) == session;
  });
  state().sessions.erase(session);
  if (graphs != 0) log_line("released " + std::to_string(graphs));
}

void replace_runs(const Api& real, const void* const* real_slots, const void** slots) {
  State& own = state();
  own.real = real;
  own.allocate = reinterpret_cast<decltype(own.allocate)>(const_cast<void*>(real_slots[75]));
  (void)real.CreateCpuMemoryInfo(kDeviceAllocator, kMemoryDefault, &own.cpu);
  const auto replace = [slots](std::size_t slot, auto function) {
    slots[slot] = reinterpret_cast<const void*>(function);
  };
  replace(49, &create_tensor);
  replace(68, &create_memory_info);
  replace(94, &release_memory_info);
  replace(96, &release_value);
  replace(97, &release_run_options);
  replace(133, &run_with_binding);
  replace(134, &create_binding);
  replace(135, &release_binding);
  replace(136, &bind_input);
  replace(137, &bind_output);
  replace(138, &bind_output_to);
  replace(140, &get_bound_outputs);
  replace(165, &add_run_config);
}

}  // namespace pyruntime::ort
