#include "schedule/batch_slot.h"

#include <algorithm>
#include <cstring>
#include <sstream>
#include <utility>

#include "schedule/core_budget.h"
#include "schedule/placement.h"
#include "schedule/request_pool.h"

namespace pyruntime {
namespace {

Status cancelled_while_it_ran() {
  return {ErrorCode::kCancelled, "cancelled by the caller while it ran"};
}

std::string in_seconds(Nanoseconds time) {
  std::ostringstream text;
  text << std::chrono::duration<double>(time).count() << " s";
  return text.str();
}

}  // namespace

BatchSlot::BatchSlot(const SlotContext& context, const std::string& where, InstanceStreams& streams,
                     EventCount& events, RunStats& stats)
    : context_(context),
      events_(events),
      on_host_(context.backend.is_host_accessible()),
      transfer_(context.backend, streams),
      stats_(&stats),
      run_(context.stats.active_runs(), where, context.session.create_control()),
      bound_runs_(context_),
      batch_results_(context.host_pool, context.plan.padding()) {
  const Signature& signature = context_.plan.signature();
  inputs_.resize(signature.inputs.size());
  outputs_.resize(signature.outputs.size());
  results_.resize(signature.outputs.size());
  retried_.reserve(static_cast<std::size_t>(context.max_rows));
  if (context_.device_pool != nullptr) {
    device_gather_.emplace(context.host_pool, *context.device_pool, context.plan.padding());
    device_results_.emplace(signature, *context.device_pool, context.plan.padding());
  }
}

void BatchSlot::start(Batch& batch, bool is_behind) {
  std::swap(batch_, batch);
  batch.clear();
  begin({}, is_behind ? kNever : batch_.formed_at);
}

void BatchSlot::begin(Way way, TimePoint since) {
  way_ = way;
  wanted_ = 0;
  for (const Request* request : batch_.members) wanted_ |= request->wanted;
  is_padded_ = way.may_pad && needs_padding();
  overlap_ = Overlap::kNone;
  transfer_.begin(false);
  // An owner may be a thread without anyone above it to catch.
  try {
    if (run_.begin(batch_.members, since)) {
      status_ = prepare();
      gathered_at_ = context_.clock.now();
      if (status_.ok()) status_ = launch();
    } else {
      status_ = cancelled_while_it_ran();
    }
  } catch (const Error& error) {
    status_ = error.status();
  } catch (const std::exception& error) {
    status_ = Status(ErrorCode::kOverloaded, error.what());
  }
  transfer_.end();
  has_notice_ = false;
}

void BatchSlot::request_notice() {
  if (on_host_ || std::exchange(has_notice_, true)) return;
  transfer_.last().notify(
      transfer_.done(), [](void* events) { static_cast<EventCount*>(events)->notify_all(); },
      &events_);
}

// --- before the run

Status BatchSlot::prepare() {
  // Memory that runs are bound to is written and read through the host.
  const bool has_device_inputs = device_gather_ && DeviceInputs::are_in(batch_);
  const bool has_device_results = device_results_ && DeviceResults::are_in(batch_);
  bound_ = has_device_inputs || has_device_results ? nullptr : find_bound();
  if (bound_ != nullptr) return prepare_bound();
  shape_inputs(&inputs_);
  plan_outputs();
  if (has_device_inputs) {
    Status status = device_gather_->gather(transfer_.compute(), batch_, is_padded_, &inputs_);
    return status.ok() ? allocate_outputs() : status;
  }
  return on_host_ ? prepare_on_host() : prepare_on_device();
}

Status BatchSlot::prepare_on_host() {
  // One request is read where it lies.
  if (batch_.members.size() > 1 || is_padded_) {
    Status status = gather_in_staging(at_least_one(place(inputs_, nullptr)));
    if (!status.ok()) return status;
  }
  return allocate_outputs();
}

Status BatchSlot::prepare_on_device() {
  const std::size_t bytes = at_least_one(place(inputs_, nullptr));
  const std::size_t output_bytes = is_preallocated_ ? place(outputs_, nullptr) : 0;
  overlap_ = way_.overlap.value_or(context_.overlap.of(batch_.bucket->index, bytes + output_bytes));
  transfer_.begin(overlap_ != Overlap::kNone);
  Status status = gather_in_staging(bytes);
  if (!status.ok()) return status;
  device_inputs_ = context_.device_pool->allocate(bytes, &status);
  if (!status.ok()) return status;
  transfer_.to_device(device_inputs_.data(), staging_.data(), bytes);
  place(inputs_, device_inputs_.data());
  for (Tensor& input : inputs_) input.device = context_.session.device();
  return allocate_outputs();
}

Status BatchSlot::gather_in_staging(std::size_t bytes) {
  Status status;
  staging_ = context_.host_pool.allocate(bytes, &status);
  if (!status.ok()) return status;
  place(inputs_, staging_.data());
  gather(inputs_);
  return {};
}

bool BatchSlot::needs_padding() const {
  const Bucket& bucket = *batch_.bucket;
  if (context_.plan.padding().is_empty() || bucket.runs_alone) return false;
  return std::ranges::any_of(batch_.members, [&](const Request* request) {
    for (std::size_t i = 0; i < request->inputs.size(); ++i) {
      if (!std::ranges::equal(request->inputs[i].shape.dims().subspan(1), bucket.tails[i].dims())) {
        return true;
      }
    }
    return false;
  });
}

void BatchSlot::shape_inputs(std::vector<Tensor>* inputs) const {
  const Request& first = *batch_.members.front();
  for (std::size_t i = 0; i < inputs->size(); ++i) {
    Tensor& input = (*inputs)[i];
    view(first.inputs[i], &input);
    if (batch_.members.size() > 1) input.shape[0] = batch_.rows;
    if (is_padded_) {
      const Shape& tail = batch_.bucket->tails[i];
      std::ranges::copy(tail.dims(), &input.shape[1]);
    }
  }
}

void BatchSlot::gather(std::vector<Tensor>& inputs) const {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::byte* to = inputs[i].data;
    if (batch_.members.size() == 1 && !is_padded_) {
      const Tensor& from = batch_.members.front()->inputs[i];
      std::memcpy(to, from.data, from.size_bytes());
      continue;
    }
    const std::size_t row_bytes = inputs[i].row_bytes();
    for (const Request* request : batch_.members) {
      const std::size_t bytes = row_bytes * static_cast<std::size_t>(request->rows_);
      if (is_padded_) {
        context_.plan.padding().fill(i, request->inputs[i], inputs[i].shape, to);
      } else {
        std::memcpy(to, request->inputs[i].data, bytes);
      }
      to += bytes;
    }
  }
}

void BatchSlot::plan_outputs() {
  is_preallocated_ = way_.may_preallocate && context_.plan.knows_outputs();
  if (is_preallocated_) {
    context_.plan.shape_outputs(inputs_, context_.session.device(), &outputs_);
  } else {
    for (Tensor& output : outputs_) output.data = nullptr;
  }
}

Status BatchSlot::allocate_outputs() {
  if (!is_preallocated_) return {};
  Status status;
  const std::size_t bytes = at_least_one(place(outputs_, nullptr));
  result_memory_ = context_.host_pool.allocate(bytes, &status);
  if (!status.ok()) return status;
  if (on_host_) {
    place(outputs_, result_memory_.data());
  } else {
    device_outputs_ = context_.device_pool->allocate(bytes, &status);
    if (!status.ok()) return status;
    place(outputs_, device_outputs_.data());
  }
  return {};
}

// --- bound runs

BoundBatch* BatchSlot::find_bound() {
  if (!way_.may_preallocate || !context_.plan.knows_outputs()) return nullptr;
  if (BoundBatch* const graph = bound_runs_.find_graph(batch_.rows)) return graph;
  if (!way_.may_pad) return nullptr;
  BoundBatch* const bound = bound_runs_.place_of(*batch_.bucket, batch_.rows);
  if (bound == nullptr) return nullptr;
  if (!bound->is_tried) {
    bound->inputs.resize(inputs_.size());
    shape_inputs(&bound->inputs);
    bound_runs_.bind(bound);
  }
  return bound->run == nullptr ? nullptr : bound;
}

Status BatchSlot::prepare_bound() {
  gather(bound_->inputs);
  if (bound_->rows != batch_.rows) {
    // The rest is nobody's: not what an earlier batch has left there.
    for (const Tensor& input : bound_->inputs) {
      const std::size_t used = input.row_bytes() * static_cast<std::size_t>(batch_.rows);
      std::memset(input.data + used, 0, input.size_bytes() - used);
    }
  }
  if (on_host_) return {};
  overlap_ = way_.overlap.value_or(
      context_.overlap.of(batch_.bucket->index, bound_->input_bytes + bound_->output_bytes));
  transfer_.begin(overlap_ != Overlap::kNone);
  if (bound_->input_bytes != 0) {
    transfer_.to_device(bound_->device_inputs, bound_->inputs.front().data, bound_->input_bytes);
  }
  return {};
}

Status BatchSlot::run_bound() {
  Status status = bound_->run->run(transfer_.compute(), &run_.control());
  if (status.ok() && !on_host_ && bound_->output_bytes != 0) {
    transfer_.to_host(bound_->outputs.front().data, bound_->device_outputs, bound_->output_bytes);
  }
  return status;
}

// --- the run

Status BatchSlot::launch() {
  if (bound_ != nullptr) return run_bound();
  Status status =
      context_.session.run(transfer_.compute(), inputs_, outputs_, wanted_, &run_.control());
  if (status.ok() && !on_host_) status = fetch_outputs();
  return status;
}

Status BatchSlot::fetch_outputs() {
  for (std::size_t i = 0; i < outputs_.size(); ++i) view(outputs_[i], &results_[i]);
  for (Tensor& result : results_) result.device = Device{};
  if (DeviceResults::are_in(batch_)) {
    sizes_.measure(outputs_);
    const BatchResults::Source source{.outputs = outputs_,
                                      .sizes = &sizes_,
                                      .inputs = &inputs_,
                                      .memory = is_preallocated_ ? &device_outputs_ : nullptr,
                                      .is_padded = is_padded_,
                                      .is_single = batch_.members.size() == 1};
    Status status = device_results_->give(transfer_.compute(), batch_, source);
    return status.ok() ? fetch_outputs_one_by_one() : status;
  }
  if (is_preallocated_) {
    const std::size_t bytes = place(results_, result_memory_.data());
    transfer_.to_host(result_memory_.data(), device_outputs_.data(), bytes);
    return {};
  }
  return fetch_outputs_one_by_one();
}

// Those that a member wants on the host.
Status BatchSlot::fetch_outputs_one_by_one() {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    if (!DeviceResults::is_fetched(batch_, i)) results_[i].data = nullptr;
    if (results_[i].data != nullptr) bytes += aligned(results_[i].size_bytes());
  }
  Status status;
  result_memory_ = context_.host_pool.allocate(at_least_one(bytes), &status);
  if (!status.ok()) return status;
  std::byte* to = result_memory_.data();
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    if (results_[i].data == nullptr) continue;
    results_[i].data = to;
    const std::size_t size = results_[i].size_bytes();
    transfer_.to_host(to, outputs_[i].data, size);
    to += aligned(size);
  }
  return {};
}

// --- after the run

Status BatchSlot::outcome() {
  Status status = on_host_ ? transfer_.done().wait() : wait();
  run_.end();
  ran_at_ = context_.clock.now();
  return !is_lost_ && !status_.ok() ? status_ : status;
}

Status BatchSlot::wait() {
  Event& done = transfer_.done();
  while (!done.is_ready()) {
    if (is_overdue()) {
      is_lost_ = true;
      run_.report();
      return {ErrorCode::kEngineError, run_.where() + ": the run did not complete within " +
                                           in_seconds(context_.stats.active_runs().stuck_after())};
    }
    // A short run is over before a sleeper could have been woken.
    if (spin_until(CoreBudget::instance(), [this] { return is_ready(); })) continue;
    request_notice();
    const EventCount::Ticket ticket = events_.prepare_wait();
    if (is_ready()) {
      events_.cancel_wait();
    } else {
      events_.wait(ticket, time_left());
    }
  }
  return done.status();
}

bool BatchSlot::is_overdue() const {
  const TimePoint due_at = run_.due_at();
  return !on_host_ && due_at != kNever && context_.clock.now() >= due_at;
}

Nanoseconds BatchSlot::time_left() const {
  const TimePoint due_at = run_.due_at();
  if (on_host_ || due_at == kNever) return Nanoseconds(-1);
  return std::max(Nanoseconds(0), due_at - context_.clock.now());
}

bool BatchSlot::outputs_were_as_planned() {
  std::vector<Tensor> planned;
  context_.plan.shape_outputs(inputs_, Device{}, &planned);
  return std::equal(planned.begin(), planned.end(), outputs_.begin(),
                    [](const Tensor& plan, const Tensor& got) {
                      return got.data == nullptr || plan.shape == got.shape;
                    });
}

bool BatchSlot::finish() {
  const bool is_alone = batch_.members.size() == 1;
  Status status = outcome();
  if (!is_lost_ && status_.code() == ErrorCode::kEngineError && is_alone && uses_preallocated()) {
    // Refused by the engine, not failed on the device. The model may have
    // answered another shape than it declares: once more, with outputs of the
    // engine's own.
    forget_run();
    begin({.may_preallocate = false, .may_pad = way_.may_pad}, context_.clock.now());
    status = outcome();
    if (status.ok() && !outputs_were_as_planned()) context_.plan.disprove_outputs();
  }
  if (!is_lost_ && status.code() == ErrorCode::kEngineError && is_alone && is_padded_) {
    // Perhaps it is too long only when padded.
    const std::vector<Tensor> padded = bound_ != nullptr ? bound_->inputs : inputs_;
    forget_run();
    begin({.may_pad = false}, context_.clock.now());
    status = outcome();
    if (status.ok()) context_.plan.padding().forbid(batch_.members.front()->inputs, padded);
  }
  bool may_batch = true;
  if (status.ok() && !is_alone && !outputs_follow_rows()) {
    may_batch = false;
    status = Status(ErrorCode::kEngineError, "the outputs do not follow the batch's rows");
  }
  if (status.ok()) {
    scatter();
  } else if (is_alone || is_lost_ || status.code() == ErrorCode::kCancelled) {
    fail(status);
  } else {
    run_each_alone();
  }
  return may_batch;
}

bool BatchSlot::outputs_follow_rows() const {
  if (bound_ != nullptr || is_preallocated_) return true;  // the engine has checked
  return std::all_of(outputs_.begin(), outputs_.end(), [&](const Tensor& output) {
    return output.data == nullptr || (output.shape.rank() > 0 && output.shape[0] == batch_.rows);
  });
}

void BatchSlot::count(const Request& request) {
  stats_->count_outcome(request.status.code(), request.rows_, request.timing.queue_ns,
                        (answered_at_ - request.submitted_at_).count());
}

void BatchSlot::count_results() {
  RunStats::Results results = stats_->results();
  for (const Request* request : batch_.members) {
    if (request->status.ok()) {
      results.add(request->rows_, request->timing.queue_ns,
                  (answered_at_ - request->submitted_at_).count());
    } else {
      count(*request);
    }
  }
}

// The members' states are set and counted.
void BatchSlot::answer_all() {
  Admission& admission = *batch_.members.front()->admission_;
  const auto count = static_cast<int64_t>(batch_.members.size());
  {
    const Request::Completing completing;
    const RequestPool::Spare spare(*batch_.members.front()->pool_);
    for (Request* request : batch_.members) request->answer(Batch::kReferences);
  }
  batch_.clear();
  admission.leave(count);
}

void BatchSlot::fail(const Status& status) {
  if (!is_lost_) forget_run();  // else the device may still write to it
  answered_at_ = ran_at_;
  for (Request* request : batch_.members) {
    request->status = request->is_unwanted() ? cancelled_while_it_ran() : status;
    count(*request);
  }
  answer_all();
}

void BatchSlot::give_back(Batch* batch) {
  run_.end();
  is_lost_ = true;
  std::swap(batch_, *batch);
}

void BatchSlot::start_trial(const Batch& batch, Overlap overlap) {
  batch_ = batch;
  begin({.overlap = overlap}, context_.clock.now());
}

Status BatchSlot::finish_trial() {
  Status status = outcome();
  if (!is_lost_) forget_run();
  batch_.clear();
  return status;
}

void BatchSlot::give_up_trial() {
  Batch batch;
  give_back(&batch);
}

std::size_t BatchSlot::payload_bytes(const Batch& batch) {
  batch_ = batch;
  is_padded_ = needs_padding();
  way_ = {};
  shape_inputs(&inputs_);
  plan_outputs();
  const std::size_t bytes = place(inputs_, nullptr);
  batch_.clear();
  return bytes + (is_preallocated_ ? place(outputs_, nullptr) : 0);
}

void BatchSlot::refuse(const SlotContext& context, Batch& batch, const Status& status) {
  const TimePoint now = context.clock.now();
  Admission& admission = *batch.members.front()->admission_;
  const auto count = static_cast<int64_t>(batch.members.size());
  for (Request* request : batch.members) {
    request->answer_unserved(status, now, Batch::kReferences);
  }
  batch.clear();
  admission.leave(count);
}

void BatchSlot::run_each_alone() {
  retried_.assign(batch_.members.begin(), batch_.members.end());
  Bucket* const bucket = batch_.bucket;
  stats_->count_retried(retried_.size());
  forget_run();
  for (Request* request : retried_) {
    if (is_lost_) {  // with the one before
      batch_.members.assign(1, request);
      fail({ErrorCode::kEngineError, run_.where() + ": lost with a run that did not complete"});
      continue;
    }
    batch_.members.assign(1, request);
    batch_.rows = request->rows_;
    batch_.bucket = bucket;
    batch_.formed_at = context_.clock.now();
    begin({}, batch_.formed_at);
    finish();
  }
}

void BatchSlot::scatter() {
  const std::vector<Request*>& members = batch_.members;
  // The run has used the caches for itself. Asked for together, the requests
  // come back in the time of one.
  for (const Request* request : members) request->prefetch();
  for (const Request* request : members) {
    for (const Tensor& output : request->outputs) prefetch(&output);
  }
  describe_results();
  int64_t row = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    Request* const request = members[i];
    if (request->is_unwanted()) {
      request->status = cancelled_while_it_ran();
    } else {
      batch_results_.hand_out(*request, row);
      if (request->has_device_outputs()) device_results_->hand_out(*request, i);
    }
    row += request->rows_;
  }
  answered_at_ = context_.clock.now();
  RequestTiming timing;
  timing.gather_ns = (gathered_at_ - batch_.formed_at).count();
  timing.run_ns = (ran_at_ - gathered_at_).count();
  timing.scatter_ns = (answered_at_ - ran_at_).count();
  timing.batch_rows = batch_.rows;
  stats_->count_batch(timing.batch_rows, timing.gather_ns, timing.run_ns, timing.scatter_ns,
                      answered_at_);
  if (transfer_.is_beside()) stats_->count_overlapped();
  if (bound_ != nullptr && bound_->is_graph) stats_->count_replayed();
  batch_.bucket->cost.record(timing.batch_rows, (answered_at_ - batch_.formed_at).count());
  forget_run();
  for (Request* request : members) {
    timing.queue_ns = request->timing.queue_ns;
    request->timing = timing;
  }
  count_results();
  answer_all();
}

void BatchSlot::describe_results() {
  BatchResults::Source source;
  source.is_single =
      batch_.members.size() == 1 && (bound_ == nullptr || bound_->rows == batch_.rows);
  source.is_padded = is_padded_;
  if (bound_ != nullptr) {
    source.outputs = bound_->outputs;
    source.sizes = &bound_->output_sizes;
    source.inputs = &bound_->inputs;
    source.is_used_again = true;
  } else {
    source.outputs = on_host_ ? outputs_ : results_;
    sizes_.measure(source.outputs);
    source.sizes = &sizes_;
    source.inputs = &inputs_;
    if (is_preallocated_ || !on_host_) source.memory = &result_memory_;
  }
  batch_results_.set(source);
}

void BatchSlot::forget_run() {
  bound_ = nullptr;
  staging_.reset();
  device_inputs_.reset();
  device_outputs_.reset();
  result_memory_.reset();
  if (device_gather_) {
    device_gather_->reset();
    device_results_->reset();
  }
  for (Tensor& output : outputs_) output.buffer.reset();
}

}  // namespace pyruntime
