#include "wire/infer_call.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <limits>
#include <mutex>
#include <new>
#include <string>
#include <thread>

#include "base/slab.h"
#include "wire/infer_request.h"
#include "wire/infer_response.h"
#include "wire/request_options.h"
#include "wire/scratch.h"
#include "wire/shared_tensors.h"
#include "wire/tensor_contents.h"
#include "wire/text.h"
#include "wire/typed_contents.h"

namespace pyruntime {
namespace {

// A message of protobuf's has at most this many bytes.
constexpr std::size_t kMaxMessageBytes = std::numeric_limits<int32_t>::max();

}  // namespace

struct InferCall::State {
  // kIdle -> kUnderWay -> kCalledBack (of submit()), or else kSpent. begin() and
  // cancel() store one of `stage` and `is_cancelled` and then look at the other
  // (seq_cst).
  enum Stage : uint32_t { kIdle, kUnderWay, kCalledBack, kSpent };

  uint32_t pool_index = 0;
  const Registry* registry = nullptr;
  const SharedMemory* shared = nullptr;

  InferRequestView view;
  Decision decision;  // before `request`, which is of its model's pool
  RequestRef request;
  std::mutex request_mutex;  // guards a change of `request` against cancel()
  Scratch scratch;           // inputs that cannot be used where they lie
  TimePoint deadline = kNever;
  std::string_view route_key;
  bool is_typed = false;
  // Where outputs go that are not in the response, in the signature's order; empty: none does.
  std::vector<SharedPlace> output_places;
  std::vector<Tensor> host_targets;  // of these, those in memory of the host

  Status status;
  InferResponse response;
  std::size_t response_size = 0;
  std::array<char, 20> version_text;

  void (*on_complete)(void* context) noexcept = nullptr;
  void* context = nullptr;
  std::thread::id called_back_on;
  std::atomic<uint32_t> stage{kIdle};
  std::atomic<bool> is_cancelled{false};

  static Slab<State>& pool() {
    // Never destroyed: calls may end while the process does.
    static auto& states = *new Slab<State>([] { return std::make_unique<State>(); });
    return states;
  }

  ModelVersion& model() const { return *decision.model; }
  Status decode(ByteSpan bytes);
  Status decode_for_model();
  Status infer();
  bool find_successor(const Status& refusal);
  Status decode_inputs();
  Status decode_outputs();
  Status decode_input(const InferInputView& input, Occurrences& raw, bool* is_shared);
  Status decode_output_place(std::string_view name, const SharedPlace& place);
  Status write_shared_outputs();
  Status begin();
  void complete(const Status& result);
  void call_back(const Status& result);
  void reset();
};

Status InferCall::State::decode(ByteSpan bytes) {
  if (Status parsed = view.parse(bytes); !parsed.ok()) return parsed;
  return decode_for_model();
}

Status InferCall::State::decode_for_model() {
  RouteQuery query;
  RequestParameters parameters;
  Status found = parse_model_version(view.model_version, &query.version);
  if (found.ok()) found = read_parameters(view, &parameters);
  if (!found.ok()) return found;
  query.label = parameters.label;
  query.key = parameters.route_key.empty() ? route_key : parameters.route_key;
  if (found = registry->route(view.model_name, query, &decision); !found.ok()) return found;
  request = model().new_request();
  if (parameters.priority) request->priority = *parameters.priority;
  request->deadline = parameters.deadline;
  if (Status decoded = decode_inputs(); !decoded.ok()) return decoded;
  return decode_outputs();
}

Status InferCall::State::decode_inputs() {
  Occurrences inputs(view.message, RequestField::kInputs);
  Occurrences raw(view.message, RequestField::kRawInputContents);
  InferInputView input;
  std::size_t index = 0;
  std::size_t in_message = 0;
  for (ByteSpan message; inputs.next(&message); ++index) {
    if (Status parsed = input.parse(message, index); !parsed.ok()) return parsed;
    bool is_shared = false;
    if (Status decoded = decode_input(input, raw, &is_shared); !decoded.ok()) return decoded;
    if (!is_shared) ++in_message;
  }
  is_typed = in_message != 0 && view.raw_count == 0;
  if (view.raw_count <= in_message) return {};
  return {ErrorCode::kInvalidInput, "raw_input_contents: expected " + std::to_string(in_message) +
                                        ", one for each input" +
                                        (in_message < index ? " that is not shared" : "") +
                                        ", got " + std::to_string(view.raw_count)};
}

Status InferCall::State::decode_input(const InferInputView& input, Occurrences& raw,
                                      bool* is_shared) {
  SharedPlace place;
  if (input.has_parameters) {
    Status checked =
        read_tensor_parameters(input.message, kInputParameters, "input", input.name, &place);
    if (!checked.ok()) return checked;
    *is_shared = place.is_given();
  }
  if (!model().signature().find_input(input.name)) {
    return model().set_input(*request, input.name, {});  // says what there is
  }
  Tensor tensor;
  Status unpacked;
  if (place.is_given()) {
    unpacked = tensor_from_shared(input, place, shared, scratch, &tensor);
  } else if (view.raw_count == 0) {
    unpacked = tensor_from_typed(input, scratch, &tensor);
  } else {
    ByteSpan contents;
    if (!raw.next(&contents)) {
      return {ErrorCode::kInvalidInput,
              "raw_input_contents: expected " + std::to_string(view.input_count) +
                  ", one for each input, got " + std::to_string(view.raw_count)};
    }
    unpacked = tensor_from_raw(input, contents, scratch, &tensor);
  }
  if (!unpacked.ok()) return unpacked;
  return model().set_input(*request, input.name, std::move(tensor));
}

Status InferCall::State::decode_outputs() {
  output_places.clear();
  host_targets.clear();
  if (!view.has_outputs) return {};
  Occurrences outputs(view.message, RequestField::kOutputs);
  InferRequestedOutputView output;
  std::size_t index = 0;
  for (ByteSpan message; outputs.next(&message); ++index) {
    if (Status parsed = output.parse(message, index); !parsed.ok()) return parsed;
    SharedPlace place;
    if (output.has_parameters) {
      Status checked =
          read_tensor_parameters(output.message, kOutputParameters, "output", output.name, &place);
      if (!checked.ok()) return checked;
    }
    if (Status wanted = model().want_output(*request, output.name); !wanted.ok()) return wanted;
    if (!place.is_given()) continue;
    if (Status placed = decode_output_place(output.name, place); !placed.ok()) return placed;
  }
  return {};
}

Status InferCall::State::decode_output_place(std::string_view name, const SharedPlace& place) {
  Tensor target;
  Status found = find_shared(shared, place, &target);
  if (!found.ok()) return {found.code(), "output " + quoted(name) + ": " + found.message()};
  target.type = DataType::kUint8;
  target.shape = Shape{static_cast<int64_t>(place.size_bytes)};
  const std::size_t count = model().signature().outputs.size();
  const std::size_t index = model().signature().find_output(name).value_or(count);
  if (index >= 64) {
    return {ErrorCode::kUnimplemented,
            "output " + quoted(name) + ": shared memory for outputs past the 64th"};
  }
  output_places.resize(count);
  output_places[index] = place;
  if (target.device == Device{}) {
    host_targets.resize(count);
    host_targets[index] = std::move(target);
  } else {
    request->write_to(index, std::move(target));
  }
  return {};
}

// Those of the host's memory; what lies on a device has been written there.
Status InferCall::State::write_shared_outputs() {
  for (std::size_t i = 0; i < host_targets.size(); ++i) {
    const Tensor& output = request->outputs[i];
    const Tensor& target = host_targets[i];
    if (target.data == nullptr || output.data == nullptr) continue;
    const std::size_t size_bytes = raw_contents_size(output);
    if (size_bytes > target.size_bytes()) {
      const std::string name = quoted(model().signature().outputs[i].name);
      return {ErrorCode::kInvalidInput,
              "shared memory size specified with the request for output " + name + " (" +
                  std::to_string(target.size_bytes()) + " bytes) should be at least " +
                  std::to_string(size_bytes) + " bytes to hold the results"};
    }
    write_raw_contents(output, target.data);
  }
  return {};
}

// What infer() and submit() have in common before the scheduler.
Status InferCall::State::begin() {
  if (!status.ok()) return status;
  if (!request || stage.load(std::memory_order_relaxed) != kIdle) {
    return {ErrorCode::kInvalidInput, "InferCall: expected one decode() and then one run"};
  }
  request->deadline = std::min(request->deadline, deadline);
  stage.store(kUnderWay, std::memory_order_seq_cst);
  if (!is_cancelled.load(std::memory_order_seq_cst)) return {};
  stage.store(kSpent, std::memory_order_relaxed);
  return {ErrorCode::kCancelled, "cancelled by the caller before it ran"};
}

Status InferCall::State::infer() {
  decision.watch(*request, view.id);
  Status result = model().infer(request);
  decision.end(result, *request);
  return result;
}

// Whether the version was unloaded between being found and being asked, and the
// call is now decoded for the one that took its place.
bool InferCall::State::find_successor(const Status& refusal) {
  if (refusal.code() != ErrorCode::kUnavailable) return false;
  const std::shared_ptr<ModelVersion> refused = decision.model;  // outlives its request
  const std::lock_guard lock(request_mutex);
  request.reset();  // before its model
  scratch.reset();
  if (!decode_for_model().ok() || is_cancelled.load(std::memory_order_seq_cst)) return false;
  if (decision.model == refused) return false;  // stopped, and still what is served
  request->deadline = std::min(request->deadline, deadline);
  return true;
}

void InferCall::State::complete(const Status& result) {
  status = result.ok() ? write_shared_outputs() : result;
  if (status.ok()) {
    const auto [end, error] = std::to_chars(
        version_text.data(), version_text.data() + version_text.size(), model().version());
    response_size = response.measure({.model_name = model().name(),
                                      .model_version = {version_text.data(), end},
                                      .id = view.id,
                                      .experiment = decision.experiment(),
                                      .arm = decision.arm_name(),
                                      .specs = model().signature().outputs,
                                      .tensors = request->outputs,
                                      .places = output_places,
                                      .is_typed = is_typed});
    if (response_size > kMaxMessageBytes) {
      status = {ErrorCode::kEngineError, "model '" + model().name() +
                                             "': expected a response of at most " +
                                             std::to_string(kMaxMessageBytes) + " bytes, got " +
                                             std::to_string(response_size)};
    }
  }
}

void InferCall::State::call_back(const Status& result) {
  complete(model().named(result));
  called_back_on = std::this_thread::get_id();
  const auto call = on_complete;
  void* const call_context = context;
  stage.store(kCalledBack, std::memory_order_release);  // pairs with GiveBack
  call(call_context);                                   // may destroy the call
}

void InferCall::State::reset() {
  registry = nullptr;
  shared = nullptr;
  output_places.clear();
  host_targets.clear();
  view = {};
  request.reset();
  decision.reset();
  scratch.reset();
  deadline = kNever;
  route_key = {};
  is_typed = false;
  if (!status.ok()) status = Status();
  on_complete = nullptr;
  context = nullptr;
  stage.store(kIdle, std::memory_order_relaxed);
  is_cancelled.store(false, std::memory_order_relaxed);
}

void InferCall::GiveBack::operator()(State* state) const noexcept {
  const uint32_t stage = state->stage.load(std::memory_order_acquire);  // pairs with call_back()
  if (stage == State::kUnderWay) {
    state->request->cancel();
    state->request->wait();
  } else if (stage == State::kCalledBack && state->called_back_on != std::this_thread::get_id()) {
    state->request->wait();  // until on_complete has returned
  }
  state->reset();
  State::pool().give(state->pool_index);
}

InferCall::InferCall(const Registry& registry, const SharedMemory* shared) {
  const auto [state, index] = State::pool().take();
  state->pool_index = index;
  state->registry = &registry;
  state->shared = shared;
  state_.reset(state);
}

InferCall::~InferCall() = default;

Status InferCall::decode(std::span<const std::byte> request) {
  State& state = *state_;
  try {
    state.status = state.decode(request);
  } catch (const std::bad_alloc&) {
    state.status = {ErrorCode::kOverloaded, "no memory to unpack a request of " +
                                                std::to_string(request.size()) + " bytes"};
  } catch (const Error& error) {
    state.status = error.status();
  }
  return state.status;
}

void InferCall::set_route_key(std::string_view key) { state_->route_key = key; }

void InferCall::set_deadline(TimePoint deadline) { state_->deadline = deadline; }

Status InferCall::infer() {
  State& state = *state_;
  if (Status begun = state.begin(); !begun.ok()) return state.status = begun;
  Status result = state.infer();
  while (state.find_successor(result)) result = state.infer();
  state.complete(result);
  state.stage.store(State::kSpent, std::memory_order_relaxed);
  return state.status;
}

Status InferCall::submit(void (*on_complete)(void* context) noexcept, void* context) {
  State& state = *state_;
  if (Status begun = state.begin(); !begun.ok()) return state.status = begun;
  state.on_complete = on_complete;
  state.context = context;
  state.request->context = &state;
  state.request->on_complete = [](void* own, Request& request) noexcept {
    static_cast<State*>(own)->call_back(request.status);
  };
  state.decision.watch(*state.request, state.view.id);
  // From here on the call may complete, and then be destroyed, at any time.
  const std::shared_ptr<ModelVersion> model = state.decision.model;
  const RequestRef request = state.request;  // dropped before its model
  if (Status accepted = model->submit(request); !accepted.ok()) {
    state.decision.end(accepted, *request);
    state.stage.store(State::kSpent, std::memory_order_relaxed);
    return state.status = accepted;
  }
  // A cancel() that came before the request was queued. Should the state be
  // another call's by now, then this request is done, and cancelling it nothing.
  if (state.is_cancelled.load(std::memory_order_seq_cst)) request->cancel();
  return {};
}

const Status& InferCall::status() const { return state_->status; }

void InferCall::cancel() {
  State& state = *state_;
  state.is_cancelled.store(true, std::memory_order_seq_cst);
  const std::lock_guard lock(state.request_mutex);
  if (state.stage.load(std::memory_order_seq_cst) != State::kUnderWay) return;
  if (state.request) state.request->cancel();  // there is none where a successor was sought in vain
}

std::size_t InferCall::response_size() { return state_->response_size; }

void InferCall::encode(std::byte* response) { state_->response.encode(response); }

std::string_view InferCall::id() const { return state_->view.id; }

std::string_view InferCall::model_name() const { return state_->view.model_name; }

std::string_view InferCall::model_version() const { return state_->view.model_version; }

}  // namespace pyruntime
