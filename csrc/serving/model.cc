#include "serving/model.h"

#include <algorithm>
#include <thread>
#include <utility>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "base/background.h"
#include "base/fork.h"
#include "memory/device.h"
#include "schedule/batch_slot.h"
#include "schedule/core_budget.h"
#include "schedule/graph_check.h"
#include "schedule/instance.h"
#include "serving/input_check.h"

namespace pyruntime {
namespace {

// Forgets without ending.
template <typename T>
void leave(std::unique_ptr<T>* owner) {
  [[maybe_unused]] const T* const left = owner->release();
}

std::string where(const std::string& name, int64_t version) {
  return "model '" + name + "' version " + std::to_string(version);
}

// Cores that a run on the host keeps busy; a device runs one batch at a time.
int places_of_run(const SessionOptions& options, const DeviceBackend& backend) {
  const int cores = CoreBudget::instance().cores();
  if (!backend.is_host_accessible()) return 1;
  if (options.use_global_pool || options.intra_op_threads == 0) return cores;
  return std::min(options.intra_op_threads, cores);
}

std::unique_ptr<Session> load_gently(const ModelSource& source, SessionOptions options) {
  std::unique_ptr<Session> loaded;
  run_in_background([&](ThreadMaker& maker) {
    options.thread_maker = &maker;
    loaded = load_session(source, options);
  });
  return loaded;
}

void check_options(const std::string& label, const ModelOptions& options) {
  const auto require = [&](bool holds, const char* what, int64_t got) {
    if (holds) return;
    throw Error(ErrorCode::kInvalidInput, label + ": " + what + ", got " + std::to_string(got));
  };
  const BatchingOptions& batching = options.batching;
  require(batching.max_rows >= 0 && batching.max_rows <= 65536,
          "batching.max_rows: expected 1 to 65536, or 0 to have it found", batching.max_rows);
  require(batching.max_delay.count() >= 0 && batching.max_delay.count() <= 60'000'000,
          "batching.max_delay_us: expected 0 to 60000000", batching.max_delay.count());
  require(batching.queue_capacity >= 1 && batching.queue_capacity <= 65536,
          "batching.queue_capacity: expected 1 to 65536", batching.queue_capacity);
  require(batching.queue_rows >= 0, "batching.queue_rows: expected 0 (no limit) or more",
          batching.queue_rows);
  require(batching.queue_bytes >= 0, "batching.queue_bytes: expected 0 (no limit) or more",
          batching.queue_bytes);
  require(batching.request_rows >= 0, "batching.request_rows: expected 0 (no limit) or more",
          batching.request_rows);
  require(batching.queue_timeout.count() >= 0 && batching.queue_timeout.count() <= 3'600'000'000,
          "batching.queue_timeout_us: expected 0 (no limit) to 3600000000",
          batching.queue_timeout.count());
  require(options.stuck_after.count() >= 0, "stuck_after: expected at least 0 ns",
          options.stuck_after.count());
  require(!options.instances.empty(), "instances: expected at least one group", 0);
  for (const InstanceGroup& group : options.instances) {
    require(group.count >= 1 && group.count <= 256, "instances: expected a count of 1 to 256",
            group.count);
  }
}

}  // namespace

ModelVersion::ModelVersion(std::string name, int64_t version, const ModelOptions& options,
                           const Clock& clock)
    : name_(std::move(name)),
      version_(version),
      options_(options),
      fork_generation_(fork_generation()),
      stats_(options.batching.most_rows(), clock) {}

std::shared_ptr<ModelVersion> ModelVersion::load(std::string name, int64_t version,
                                                 const ModelSource& source,
                                                 const ModelOptions& options, const Clock& clock) {
  const std::string label = where(name, version);
  if (name.empty()) throw Error(ErrorCode::kInvalidInput, "model name: expected one, got ''");
  if (version < 1) throw Error(ErrorCode::kInvalidInput, label + ": expected a version from 1 on");
  check_options(label, options);
  std::shared_ptr<ModelVersion> model(new ModelVersion(std::move(name), version, options, clock),
                                      &ModelVersion::end);
  try {
    ModelSource labelled = source;
    labelled.label = label;
    model->open(labelled, clock);
  } catch (const Error& error) {
    throw Error(error.code(), label + ": " + error.status().message());
  }
  return model;
}

void ModelVersion::open(const ModelSource& source, const Clock& clock) {
  stats_.active_runs().watch(where(name_, version_), options_.stuck_after);
  std::vector<std::unique_ptr<Instance>> instances;
  for (const InstanceGroup& group : options_.instances) {
    SessionOptions session_options = options_.session;
    session_options.device = group.device;
    session_options.captures_graphs = !options_.graph_rows.empty();
    DeviceBackend& backend = open_device(group.device);
    const auto make_session = [&]() -> Session& {
      return *sessions_.emplace_back(options_.load_gently ? load_gently(source, session_options)
                                                          : load_session(source, session_options));
    };
    Session& session = make_session();
    placement_.push_back({.device = group.device,
                          .nodes = session.placement(),
                          .by_provider = count_by_provider(session.placement())});
    if (signature_ == nullptr) {
      signature_ = &session.signature();
      check_inputs_.emplace(*signature_, memory_device());
      requests_ =
          std::make_unique<RequestPool>(signature_->inputs.size(), signature_->outputs.size());
      plan_ = std::make_unique<RunPlan>(*signature_, options_.batching.padding);
    }
    check_graphs(*plan_, backend, options_.batching, options_.graph_rows);
    BufferPool::Options pool;
    pool.capacity_bytes = options_.pool_capacity_bytes;
    pool.lock_pages = options_.lock_pages;
    BufferPool& host_pool = *pools_.emplace_back(std::make_unique<BufferPool>(backend, pool));
    BufferPool* device_pool = nullptr;
    if (!backend.is_host_accessible()) {
      pool.placement = BufferPool::Placement::kDevice;
      pool.lock_pages = false;
      device_pool = pools_.emplace_back(std::make_unique<BufferPool>(backend, pool)).get();
    }
    if (plan_->has_strings() && !backend.is_host_accessible()) {
      throw Error(ErrorCode::kUnimplemented,
                  "string tensors are not supported on device '" + group.device.name() + "'");
    }
    FairShare::Member& share = *shares_.emplace_back(std::make_unique<FairShare::Member>(
        FairShare::of(backend), places_of_run(session_options, backend), clock));
    OverlapChoice& overlap =
        *overlaps_.emplace_back(std::make_unique<OverlapChoice>(options_.overlap));
    const auto context_of = [&](Session& used) {
      return SlotContext{.session = used,
                         .backend = backend,
                         .host_pool = host_pool,
                         .device_pool = device_pool,
                         .plan = *plan_,
                         .stats = stats_,
                         .share = share,
                         .overlap = overlap,
                         .graph_rows = options_.graph_rows,
                         .clock = clock,
                         .max_rows = options_.batching.most_rows()};
    };
    if (aside_context_ == nullptr) {
      aside_context_ = std::make_unique<const SlotContext>(context_of(session));
    }
    for (int i = 0; i < group.count; ++i) {
      Session& used = i == 0 || session.is_shareable() ? session : make_session();
      instances.push_back(std::make_unique<Instance>(context_of(used)));
    }
  }
  scheduler_ =
      std::make_unique<Scheduler>(options_.batching, *plan_, std::move(instances), stats_, clock);
}

void ModelVersion::end(ModelVersion* model) {
  // The end waits for all requests, and the one that completes here is not
  // done before its on_complete returns.
  if (Request::is_completing_here()) {
    std::thread([model] { free(model); }).detach();
  } else {
    free(model);
  }
}

void ModelVersion::free(ModelVersion* model) {
  delete model;
#if defined(__GLIBC__)
  // The weights are free, but lie below other memory in the allocator's heap:
  // without this, four times a large model stays with the process.
  malloc_trim(0);
#endif
}

ModelVersion::~ModelVersion() {
  if (scheduler_ == nullptr || fork_generation_ == fork_generation()) return;
  // In a child of fork() the threads that everything here waits for do not
  // exist: nothing can be ended properly, so nothing is.
  leave(&scheduler_);
  leave(&aside_);
  leave(&requests_);
  for (auto& share : shares_) leave(&share);
  for (auto& pool : pools_) leave(&pool);
  for (auto& session : sessions_) leave(&session);
}

RequestRef ModelVersion::new_request() {
  RequestRef request = requests_->take();
  request->priority = options_.batching.default_priority;
  return request;
}

Status ModelVersion::set_input(Request& request, std::string_view name, Tensor tensor) const {
  const auto index = signature_->find_input(name);
  if (!index) return unknown_input(*signature_, name);
  Tensor& input = request.inputs[*index];
  if (input.data != nullptr) {
    return {ErrorCode::kInvalidInput, "input '" + std::string(name) + "' is given twice"};
  }
  input = std::move(tensor);
  return {};
}

Status ModelVersion::want_output(Request& request, std::string_view name) const {
  const auto index = signature_->find_output(name);
  if (!index) return unknown_output(*signature_, name);
  request.want(*index);
  return {};
}

std::optional<Device> ModelVersion::memory_device() const {
  const Device first = options_.instances.front().device;
  const bool is_one = std::ranges::all_of(
      options_.instances, [&](const InstanceGroup& group) { return group.device == first; });
  if (!is_one || open_device(first).is_host_accessible()) return std::nullopt;
  return first;
}

Status ModelVersion::check_and_count(const Request& request, int64_t* rows) const {
  if (fork_generation_ != fork_generation()) {
    return {ErrorCode::kUnavailable,
            "model '" + name_ +
                "' was loaded before this process was forked; load models after the fork"};
  }
  Status status = (*check_inputs_)(request, rows);
  if (!status.ok()) return status;
  const int64_t most_rows = options_.batching.request_rows;
  if (most_rows != 0 && *rows > most_rows) {
    return {ErrorCode::kInvalidInput, "expected at most " + std::to_string(most_rows) +
                                          " rows in a request (max_batch_size, " +
                                          "batching.request_rows), got " + std::to_string(*rows)};
  }
  if (plan_->padding().is_empty()) return status;
  return plan_->padding().check(request.inputs);
}

Status ModelVersion::check(const Request& request) const {
  int64_t rows = 1;
  return check_and_count(request, &rows);
}

Status ModelVersion::infer(const RequestRef& request) {
  int64_t rows = 1;
  Status status = check_and_count(*request, &rows);
  return status.ok() ? named(scheduler_->infer(request, rows)) : status;
}

Status ModelVersion::infer_aside(const RequestRef& request) {
  int64_t rows = 1;
  Status status = check_and_count(*request, &rows);
  if (!status.ok()) return status;
  // A session that one instance alone may use has none to spare: it runs as any other request.
  if (!sessions_.front()->is_shareable()) return named(scheduler_->infer(request, rows));
  const std::lock_guard lock(aside_mutex_);
  if (aside_ == nullptr) {
    try {
      aside_ = std::make_unique<Instance>(*aside_context_);
    } catch (const Error& error) {
      return named(error.status());
    }
  }
  return named(scheduler_->infer_aside(*aside_, request, rows));
}

Status ModelVersion::submit(const RequestRef& request) {
  int64_t rows = 1;
  Status status = check_and_count(*request, &rows);
  return status.ok() ? named(scheduler_->submit(request, rows)) : status;
}

Status ModelVersion::submit(RequestRef&& request) {
  int64_t rows = 1;
  Status status = check_and_count(*request, &rows);
  return status.ok() ? named(scheduler_->submit(std::move(request), rows)) : status;
}

Status ModelVersion::with_name(Status failure) const {
  if (failure.code() == ErrorCode::kInvalidInput) return failure;
  const std::string label = where(name_, version_) + ": ";
  if (failure.message().starts_with(label)) return failure;
  return {failure.code(), label + failure.message()};
}

Status ModelVersion::warm_up(int64_t rows, int runs) {
  if (rows < 1) {
    return {ErrorCode::kInvalidInput,
            "warm-up: expected at least 1 row, got " + std::to_string(rows)};
  }
  // Once for each size to which requests are padded, as far as they are known.
  const std::vector<std::vector<int64_t>> padded = plan_->padding().sizes();
  std::size_t shapes = 1;
  for (const auto& sizes : padded) shapes = std::max(shapes, sizes.size());
  for (std::size_t at = 0; at < shapes; ++at) {
    Padding::Sizes sizes;
    sizes.fill(1);
    for (std::size_t dim = 0; dim < padded.size(); ++dim) {
      if (!padded[dim].empty()) sizes[dim] = padded[dim][std::min(at, padded[dim].size() - 1)];
    }
    if (Status status = warm_up(rows, runs, sizes); !status.ok()) return status;
  }
  return {};
}

Status ModelVersion::warm_up(int64_t rows, int runs, const Padding::Sizes& sizes) {
  std::vector<std::vector<std::byte>> zeros;  // outlives the request
  const RequestRef sample = new_request();
  for (std::size_t i = 0; i < signature_->inputs.size(); ++i) {
    const TensorSpec& spec = signature_->inputs[i];
    Tensor& input = sample->inputs[i];
    input.type = spec.type;
    input.shape = Shape(spec.dims);
    for (std::size_t axis = 0; axis < spec.dims.size(); ++axis) {
      if (spec.dims[axis] >= 0) continue;
      input.shape[axis] = axis == 0 && signature_->is_batchable ? rows : 1;
    }
    input.shape = plan_->padding().padded(i, input.shape, sizes);
    input.data = zeros.emplace_back(std::max<std::size_t>(input.size_bytes(), 1)).data();
  }
  return warm_up(sample, runs);
}

Status ModelVersion::warm_up(const RequestRef& sample, int runs) {
  const auto make = [&] {
    RequestRef request = new_request();
    std::copy(sample->inputs.begin(), sample->inputs.end(), request->inputs.begin());
    return request;
  };
  int64_t rows = 1;
  Status status = check_and_count(*sample, &rows);
  for (int run = 0; run < runs && status.ok(); ++run) {
    status = named(scheduler_->warm_up(make, rows));
  }
  return status;
}

std::vector<DeviceOverlap> ModelVersion::overlaps() const {
  std::vector<DeviceOverlap> all;
  for (std::size_t i = 0; i < overlaps_.size(); ++i) {
    for (const OverlapChoice::Measured& one : overlaps_[i]->measured()) {
      all.push_back({options_.instances[i].device, one});
    }
  }
  return all;
}

BufferPool::Stats ModelVersion::pool_stats() const {
  BufferPool::Stats sum;
  for (const auto& pool : pools_) {
    const BufferPool::Stats stats = pool->stats();
    sum.held_bytes += stats.held_bytes;
    sum.used_bytes += stats.used_bytes;
    sum.peak_used_bytes += stats.peak_used_bytes;
    sum.allocations += stats.allocations;
    sum.system_allocations += stats.system_allocations;
    sum.exhaustions += stats.exhaustions;
  }
  return sum;
}

void ModelVersion::close() {
  if (fork_generation_ == fork_generation()) scheduler_->close();
}

}  // namespace pyruntime
