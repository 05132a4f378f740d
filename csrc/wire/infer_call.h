// One ModelInfer call: request bytes in, response bytes out.
//
//   InferCall call(registry);
//   Status s = call.decode(bytes);  // they stay valid as long as the call
//   if (s.ok()) s = call.infer();   // or submit(on_complete, context)
//   if (s.ok()) { buffer of call.response_size(); call.encode(buffer); }
//
// Input tensors with raw contents point into the request's bytes (a misaligned
// one is copied once, and counted); typed contents and strings are unpacked.
// The response has the form of the request: typed contents where all inputs
// had them and no output is FP16 or BF16, else raw ones.
//
// Parameters of the request: `timeout` (microseconds, 0: none) and `priority`
// (0: the default; 1: high; 2: normal; 3 and more: low); `route_key`, by which the
// model's route keeps a caller on one version, and `label`, instead of a version.
// Where an experiment chose, the response has the parameters `experiment` and
// `arm`. Those of sequences and classification are refused as Unimplemented where they say
// anything; others are ignored.
//
// Tensors with the parameters `shared_memory_region`, `shared_memory_byte_size`
// and `shared_memory_offset` lie in a region of SharedMemory: inputs are read
// there, outputs written there, and neither is in a message. Those in a region
// of the GPU that the model runs on do not pass through the host.
//
// Nothing here needs Python, so that a native network loop can stand on it. In
// the steady state a call with raw, aligned contents allocates nothing.
//
// Threads: one user at a time, and cancel() from any; submit()'s completion on
// any. A call may be destroyed at any time but within infer(): one under way is
// cancelled, or else waited for, and on_complete has returned. on_complete may
// itself destroy the call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "serving/registry.h"
#include "wire/shared_memory.h"

namespace pyruntime {

class InferCall {
 public:
  // Both must outlive it. shared: null where nothing may lie in shared memory.
  explicit InferCall(const Registry& registry, const SharedMemory* shared = nullptr);
  ~InferCall();
  InferCall(const InferCall&) = delete;
  InferCall& operator=(const InferCall&) = delete;

  // Parses and checks a serialised inference.ModelInferRequest and finds its
  // model. InvalidInput, ModelNotFound or Unimplemented otherwise; the call is
  // then spent. Once for each call.
  [[nodiscard]] Status decode(std::span<const std::byte> request);

  // Before decode(): counts where the request has no parameter `route_key`. Stays
  // valid as long as the call.
  void set_route_key(std::string_view key);

  // The earlier of this and the request's own `timeout` counts.
  void set_deadline(TimePoint deadline);

  // Runs it and waits.
  Status infer();
  // Runs it asynchronously; after on_complete, status() is what infer() would
  // have returned. Not called if submit() itself fails.
  [[nodiscard]] Status submit(void (*on_complete)(void* context) noexcept, void* context);
  const Status& status() const;

  // Before infer() or submit() or while they are under way: what has not begun
  // to run then completes as cancelled, on the thread that cancels; what runs is
  // answered as cancelled by its batch. (At the moment when infer() hands over
  // its request, it may come to nothing.)
  void cancel();

  // Of the serialised inference.ModelInferResponse, bytes. After success.
  std::size_t response_size();
  // Writes exactly response_size() bytes.
  void encode(std::byte* response);

  std::string_view id() const;  // the request's, to be echoed
  // After decode(), also when it failed late enough.
  std::string_view model_name() const;
  std::string_view model_version() const;  // as asked for; empty: none

 private:
  struct State;
  struct GiveBack {
    void operator()(State* state) const noexcept;
  };
  std::unique_ptr<State, GiveBack> state_;  // from a pool of the process
};

}  // namespace pyruntime
