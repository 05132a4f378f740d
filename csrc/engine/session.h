// What runs a batch: the contract of an engine's session and the table of
// engines.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/background.h"
#include "base/error.h"
#include "engine/placement.h"
#include "engine/run_control.h"
#include "memory/device.h"
#include "memory/stream.h"
#include "memory/tensor.h"

namespace pyruntime {

// One input or output as the model declares it.
struct TensorSpec {
  std::string name;
  DataType type = DataType::kFloat32;
  std::vector<int64_t> dims;         // -1: any
  std::vector<std::string> symbols;  // of each dimension, empty where it has none
  bool has_any_rank = false;         // nothing is declared: `dims` is empty, yet no scalar's

  // "float32[*, 128]"; "float32[...]" of any rank
  std::string to_string() const;
};

struct Signature {
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;

  // Rows of separate requests may share a run: dimension 0 of every input and
  // output is dynamic and, where named, has one name.
  bool is_batchable = false;

  std::map<std::string, std::string> metadata;  // producer, graph name, custom keys

  std::optional<std::size_t> find_input(std::string_view name) const;
  std::optional<std::size_t> find_output(std::string_view name) const;
};

// The rule of Signature::is_batchable, for the engines that set it.
bool has_free_rows(const Signature& signature);

// Which outputs a request wants, by index; of an output past the 63rd, always.
using OutputMask = uint64_t;
inline constexpr OutputMask kAllOutputs = ~OutputMask{0};
inline bool wants(OutputMask mask, std::size_t output) {
  return output >= 64 || ((mask >> output) & 1U) != 0;
}

// Inputs and outputs fixed to certain memory, to be run again and again on
// what that memory then holds.
//
// Threads: one user at a time.
class BoundRun {
 public:
  virtual ~BoundRun() = default;
  virtual Status run(Stream& stream, RunControl* control = nullptr) = 0;
};

// A loaded model on one device.
//
// Threads: run(), bind() and create_control() from any, at once; where it is not
// shareable, one user at a time; where it keeps to a thread, see there.
class Session {
 public:
  virtual ~Session() = default;

  virtual const Signature& signature() const = 0;
  virtual Device device() const = 0;

  // Empty where the engine has no providers.
  virtual const Placement& placement() const = 0;

  // Whether several instances may use it at once; else each needs one of its own.
  virtual bool is_shareable() const { return true; }
  // The only stream on which it runs, its own; null: on any of device().
  virtual Stream* stream() { return nullptr; }
  // Whether what capture() gave is run by the thread that captured it and by no other.
  virtual bool keeps_to_thread() const { return false; }

  // Gives one run to `stream`, a stream of device().
  // inputs: in the signature's order, contiguous, on device() (strings: host).
  // outputs: in the signature's order. Where `data` is set, the result is
  // written there and its shape must be the one given; where it is null and
  // the output is wanted, the session sets data, shape and buffer.
  // Both, and what they point to, stay valid until the stream has done the run.
  // control: of create_control(), or null: the run cannot be ended early. Valid
  // as long as the tensors; one that is terminated may end the run Cancelled.
  // Returns at once what is known to be wrong; what fails later is carried by
  // the stream's next event.
  virtual Status run(Stream& stream, std::span<const Tensor> inputs, std::span<Tensor> outputs,
                     OutputMask wanted, RunControl* control = nullptr) = 0;

  // A run bound to this memory (all of `data` set), or nullptr where run() is
  // as good. The session must outlive it.
  virtual std::unique_ptr<BoundRun> bind(std::span<const Tensor> inputs,
                                         std::span<const Tensor> outputs) = 0;

  // The same, to be replayed by the device as one graph: captured, and run on what the memory
  // holds, when this returns. Only with SessionOptions::captures_graphs.
  // number: from 1 on, of no other graph of this session. Throws EngineError.
  virtual std::unique_ptr<BoundRun> capture(Stream& stream, std::span<const Tensor> inputs,
                                            std::span<const Tensor> outputs, int number) = 0;

  // For the runs of one user of this session; it may outlive the session.
  virtual std::unique_ptr<RunControl> create_control() = 0;
};

// An execution provider and its own options, in the engine's words.
struct ProviderOptions {
  std::string name;  // "cpu", "cuda", or the engine's full name
  std::vector<std::pair<std::string, std::string>> options{};
};

enum class GraphOptimization : uint8_t { kNone, kBasic, kExtended, kAll };

struct SessionOptions {
  std::string engine = "onnx";  // a name in the table of engines
  Device device;
  std::vector<ProviderOptions> providers;  // in order of preference; empty: the device's own
  GraphOptimization graph_optimization = GraphOptimization::kAll;
  int intra_op_threads = 1;      // 0: the engine's default; ignored with the global pool
  int inter_op_threads = 1;      // other than 1: independent nodes run in parallel
  bool use_global_pool = false;  // threads shared by all sessions of the process
  bool allow_spinning = false;   // of the engine's own threads between runs
  bool use_arena = true;         // the engine's own memory arena
  std::vector<std::pair<std::string, std::string>> config;  // the engine's other keys, verbatim
  bool captures_graphs = false;  // capture() will be called; refused where the model cannot
  // Makes the engine's own threads while the session is loaded; null: the thread that loads.
  ThreadMaker* thread_maker = nullptr;

  // For the echo engine alone: its signature. Outputs equal inputs.
  std::vector<TensorSpec> echo_inputs;
};

// Where a model comes from: a file, or bytes (which need not outlive load()).
struct ModelSource {
  std::string path{};                  // beside bytes: names them, and where their other files are
  std::span<const std::byte> bytes{};  // used when not empty
  std::string label{};                 // as errors of runs name it; empty: by path
};

// A line of the table of engines.
struct EngineEntry {
  std::string_view name;
  // Throws InvalidInput (options), Unavailable (engine, device or provider
  // absent: says what to install), Unimplemented (inputs or outputs that are no
  // tensors of a DataType: named) or EngineError (the engine refuses the model).
  std::unique_ptr<Session> (*load)(const ModelSource& source, const SessionOptions& options);
  // "1.32.0", empty where it is absent.
  std::string (*version)();
  std::string (*why_absent)();
  std::vector<std::string> (*providers)();  // compiled in and loadable
};

std::span<const EngineEntry> engines();

// Throws InvalidInput when options.engine is unknown, else as EngineEntry::load.
std::unique_ptr<Session> load_session(const ModelSource& source, const SessionOptions& options);

}  // namespace pyruntime
