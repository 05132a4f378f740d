#include "serving/shadow_runner.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <string>
#include <utility>

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

namespace pyruntime {
namespace {

// How long to wait for more: a request's copy may wait, its sender must not wake anybody.
constexpr std::chrono::milliseconds kShortestNap{1};
constexpr std::chrono::milliseconds kLongestNap{16};
constexpr std::chrono::milliseconds kRest{1000};  // without a shadow: for what was under way

void become_idle() {
  pthread_setname_np(pthread_self(), "pyrt-shadow");
  const sched_param none{};
  if (sched_setscheduler(0, SCHED_IDLE, &none) == 0) return;
  constexpr int kLeast = 19;
  // Where neither is allowed, jobs still are few. 0: this thread alone, on Linux.
  static_cast<void>(setpriority(PRIO_PROCESS, 0, kLeast));
}

}  // namespace

ShadowRunner::ShadowRunner() : free_(kJobs), ready_(kJobs) {
  for (std::size_t i = 0; i < kJobs; ++i) {
    ShadowJob* job = jobs_.emplace_back(std::make_unique<ShadowJob>()).get();
    static_cast<void>(free_.try_push(job));
  }
}

ShadowRunner::~ShadowRunner() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (ShadowJob* job = nullptr; ready_.try_pop(job);) {
    job->route->shadow->count_dropped();
    give_back(job);
  }
}

ShadowJob* ShadowRunner::copy(std::shared_ptr<const ShadowRoute> route, std::size_t arm,
                              const Request& request) noexcept {
  Shadow& shadow = *route->shadow;
  shadow.count_sampled();
  ShadowJob* job = nullptr;
  const bool is_on_host =
      !request.has_device_outputs() && std::ranges::all_of(request.inputs, [](const Tensor& input) {
        return input.device == Device{};
      });
  if (!is_on_host || !route->maps[arm].has_all_inputs() || !free_.try_pop(job)) {
    shadow.count_dropped();
    return nullptr;
  }
  job->route = std::move(route);
  job->arm = arm;
  if (keep_copies(job->inputs, request.inputs)) return job;
  shadow.count_dropped();
  give_back(job);
  return nullptr;
}

void ShadowRunner::complete(ShadowJob* job, const Request& request) noexcept {
  Shadow& shadow = *job->route->shadow;
  if (!request.status.ok()) {
    shadow.count_skipped();
  } else if (!keep_copies(job->outputs, request.outputs)) {
    shadow.count_dropped();
  } else {
    static_cast<void>(ready_.try_push(job));  // has a place for every job
    return;
  }
  give_back(job);
}

// False where they are too large or on a device, or memory is short.
bool ShadowRunner::keep_copies(TensorCopies& copies, std::span<const Tensor> tensors) noexcept {
  const auto is_away = [](const Tensor& tensor) {
    return tensor.data != nullptr && tensor.device != Device{};
  };
  if (std::any_of(tensors.begin(), tensors.end(), is_away)) return false;
  const std::size_t bytes = TensorCopies::size_bytes(tensors);
  const std::size_t had = copies.capacity_bytes();
  const std::size_t more = bytes > had ? bytes - had : 0;
  if (bytes > kLargestBytes || held_bytes_.load(std::memory_order_relaxed) + more > kMostBytes) {
    return false;
  }
  bool is_done = true;
  try {
    copies.copy(tensors, bytes);
  } catch (const std::bad_alloc&) {
    is_done = false;
  }
  held_bytes_.fetch_add(copies.capacity_bytes() - had, std::memory_order_relaxed);  // may wrap
  return is_done;
}

void ShadowRunner::drop(ShadowJob* job) noexcept {
  job->route->shadow->count_skipped();
  give_back(job);
}

void ShadowRunner::give_back(ShadowJob* job) noexcept {
  job->route.reset();
  for (TensorCopies* copies : {&job->inputs, &job->outputs}) {
    const std::size_t had = copies->capacity_bytes();
    copies->shrink(kKeptBytes);
    held_bytes_.fetch_sub(had - copies->capacity_bytes(), std::memory_order_relaxed);
  }
  static_cast<void>(free_.try_push(job));  // has a place for every job
}

void ShadowRunner::set_active(bool is_active) {
  {
    const std::lock_guard lock(mutex_);
    is_active_ = is_active;
    if (is_active && !thread_.joinable()) thread_ = std::thread([this] { reside(); });
  }
  changed_.notify_all();
}

void ShadowRunner::reside() {
  become_idle();
  auto nap = kShortestNap;
  for (;;) {
    for (ShadowJob* job = nullptr; ready_.try_pop(job); nap = kShortestNap) {
      run(*job);
      give_back(job);
      const std::lock_guard lock(mutex_);
      if (is_stopping_) return;
    }
    std::unique_lock lock(mutex_);
    const bool was_active = is_active_;
    changed_.wait_for(lock, was_active ? nap : kRest,
                      [&] { return is_stopping_ || is_active_ != was_active; });
    if (is_stopping_) return;
    nap = std::min(2 * nap, kLongestNap);
  }
}

void ShadowRunner::run(ShadowJob& job) {
  const ShadowRoute& route = *job.route;
  const TensorMap& map = route.maps[job.arm];
  ModelVersion& target = *route.target;
  const RequestRef request = target.new_request();
  for (std::size_t i = 0; i < map.inputs.size(); ++i) {
    request->inputs[i] = job.inputs.tensors()[static_cast<std::size_t>(map.inputs[i])];
  }
  const auto answers = job.outputs.tensors();
  const auto is_given = [](const Tensor& tensor) { return tensor.data != nullptr; };
  if (!std::all_of(answers.begin(), answers.end(), is_given)) {
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (is_given(answers[i]) && map.outputs[i] != TensorMap::kMissing) {
        request->want(static_cast<std::size_t>(map.outputs[i]));
      }
    }
  }
  const Status status = target.infer_aside(request);
  if (!status.ok() && !request->is_done() && status.code() != ErrorCode::kInvalidInput) {
    route.shadow->count_dropped();  // its queue was full, or it is being unloaded
  } else if (!status.ok()) {
    route.shadow->count_failed(status);
  } else {
    compare(job, *request);
  }
}

void ShadowRunner::compare(const ShadowJob& job, const Request& answer) {
  const ShadowRoute& route = *job.route;
  const RequestTiming& timing = answer.timing;
  route.shadow->count_total(timing.queue_ns + timing.gather_ns + timing.run_ns + timing.scatter_ns);
  const TensorMap& map = route.maps[job.arm];
  const auto expected = job.outputs.tensors();
  bool is_match = true;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (expected[i].data == nullptr) continue;
    Difference found;
    std::string_view name = map.names[i];
    if (map.outputs[i] == TensorMap::kMissing) {
      found.beyond = 1;
      found.first = "expected it, got none from version " + std::to_string(route.target->version());
    } else {
      found = difference(expected[i], answer.outputs[static_cast<std::size_t>(map.outputs[i])],
                         route.shadow->tolerance_of(name));
    }
    route.shadow->note(name, found);
    is_match = is_match && found.is_within();
  }
  route.shadow->count_compared(is_match);
}

}  // namespace pyruntime
