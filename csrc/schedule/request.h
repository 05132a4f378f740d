// One request: what the caller asks, and later what the caller gets.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/cache_line.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/session.h"
#include "memory/tensor.h"

namespace pyruntime {

class Admission;
class Lane;
class Request;
class RequestPool;
class SchedulerStats;

// Called once for every accepted request, on whichever thread finished it,
// perhaps before submit() has returned. It must be short, must not throw and
// must not call back into the scheduler with a blocking call. To keep the
// request and its outputs, take a RequestRef of it.
using CompletionFn = void (*)(void* context, Request& request) noexcept;

enum class Priority : uint8_t { kHigh = 0, kNormal = 1, kLow = 2 };
inline constexpr int kPriorityCount = 3;

// Where the time went, ns. Zero for steps that the request never reached.
struct RequestTiming {
  int64_t queue_ns = 0;    // from submit() until its batch was formed
  int64_t gather_ns = 0;   // its batch's inputs into staging
  int64_t run_ns = 0;      // its batch in the engine
  int64_t scatter_ns = 0;  // its batch's outputs out of staging
  int64_t batch_rows = 0;  // of the run that it was part of
};

// The caller fills inputs and options, then hands it over; until completion
// the memory behind `inputs` must stay valid and unchanged (by the tensors'
// buffers, or by the caller). Afterwards status, outputs and timing are set.
//
// Requests travel between cores, so the fields lie by who writes them: a cache
// line of the caller's, one of the scheduler's, and the answer's.
//
// Threads: cancel() and the waits from any; the rest belongs to the caller
// before submission and after completion, to the scheduler in between.
class alignas(kCacheLine) Request {
 public:
  Request(std::size_t input_count, std::size_t output_count)
      : inputs(input_count), outputs(output_count) {}

  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  // Set by the caller.
  std::vector<Tensor> inputs;       // in the signature's order; data null: not given
  OutputMask wanted = kAllOutputs;  // see want()
  TimePoint deadline = kNever;
  CompletionFn on_complete = nullptr;  // null: someone waits instead
  void* context = nullptr;             // for on_complete
  Priority priority = Priority::kNormal;

 private:
  bool is_choosy_ = false;           // want() was called
  bool has_device_outputs_ = false;  // keep_on_device() was called

  // kBuilding -> kQueued -> kRunning -> kDone; whoever moves it out of kQueued
  // completes it. kUnwanted is kRunning after cancel(). kDone is stored last: the
  // waiter may then go.
  enum State : uint32_t { kBuilding, kQueued, kRunning, kUnwanted, kDone };

  alignas(kCacheLine) std::atomic<uint32_t> state_{kBuilding};
  std::atomic<uint32_t> sleepers_{0};  // waiters in futex_wait on state_
  std::atomic<uint32_t> references_{0};
  uint32_t pool_index_ = 0;
  RequestPool* pool_ = nullptr;

  // By the scheduler, between submission and completion.
  int64_t rows_ = 1;
  TimePoint submitted_at_{};
  Lane* lane_ = nullptr;
  SchedulerStats* stats_ = nullptr;
  Admission* admission_ = nullptr;

 public:
  // Set at completion.
  alignas(kCacheLine) Status status;
  std::vector<Tensor> outputs;  // in the signature's order; data null: not wanted
  RequestTiming timing;

 private:
  int64_t bytes_ = 0;  // of the inputs, where the queue limits them
  // Where has_device_outputs_ is set:
  OutputMask on_device_ = 0;
  OutputMask with_target_ = 0;
  std::vector<Tensor> targets_;  // see write_to(); empty: none

 public:
  // Adds an output to what is wanted: nothing else from the first call on.
  void want(std::size_t output) {
    if (!std::exchange(is_choosy_, true)) wanted = 0;
    if (output < 64) wanted |= OutputMask{1} << output;
  }

  // Leaves outputs, of the first 64, in the memory of the device that the model runs on.
  void keep_on_device(OutputMask which) {
    if (!std::exchange(has_device_outputs_, true)) {
      on_device_ = with_target_ = 0;
    }
    on_device_ |= which;
  }

  // The same, but into `target` of the caller's, memory of that device: at most so many bytes of
  // it, for which it is kept alive by its buffer. The output itself then describes that.
  void write_to(std::size_t output, Tensor target) {
    keep_on_device(OutputMask{1} << output);
    targets_.resize(outputs.size());
    targets_[output] = std::move(target);
    with_target_ |= OutputMask{1} << output;
  }
  // Where an output is to be written; null: memory of ours.
  const Tensor* target_of(std::size_t output) const {
    if (!has_device_outputs_ || output >= 64 || (with_target_ >> output & 1U) == 0) return nullptr;
    return &targets_[output];
  }

  bool has_device_outputs() const { return has_device_outputs_; }
  bool wants_on_device(std::size_t output) const {
    return has_device_outputs_ && output < 64 && ((wanted & on_device_) >> output & 1U) != 0;
  }
  bool wants_on_host(std::size_t output) const {
    return wants(wanted, output) && !wants_on_device(output);
  }

  // Completes the request as cancelled, now and on this thread, if it has not
  // begun to run, and returns true. If it runs, its batch will answer it as
  // cancelled unless it is just being answered; a batch of which every member
  // is cancelled is ended early. To be called by who holds a reference.
  bool cancel();

  // Whether this thread is inside some request's on_complete.
  static bool is_completing_here();

  bool is_done() const { return state_.load(std::memory_order_acquire) == kDone; }
  // Whether it was cancelled while it runs.
  bool is_unwanted() const {
    return state_.load(std::memory_order_seq_cst) == kUnwanted;  // see ActiveRun
  }

  // Blocks until done; see Scheduler for what a blocking caller does meanwhile.
  // Returns false when `timeout` (negative: no limit) was up first.
  bool wait(Nanoseconds timeout = Nanoseconds(-1));

 private:
  // While it lives, this thread answers requests.
  class Completing {
   public:
    Completing();
    ~Completing();
    Completing(const Completing&) = delete;
    Completing& operator=(const Completing&) = delete;

   private:
    const bool was_completing_;
  };

  friend class RequestRef;
  friend class RequestPool;
  friend class Scheduler;
  friend class Batcher;
  friend class BatchSlot;
  friend class BatchResults;
  friend class DeviceResults;
  friend struct RequestTestPeer;

  // The lines that completing it will use.
  void prefetch() const {
    pyruntime::prefetch(this);
    pyruntime::prefetch(&state_);
    pyruntime::prefetch(&status);
    pyruntime::prefetch(&timing);
  }
  // Moves it from kQueued to kRunning; false if someone else completed it.
  bool claim();
  // The same for who holds so many references. Where nobody else has one, nobody
  // else can complete it.
  bool claim(uint32_t references) {
    // acquire: pairs with drop(), by who may have completed it
    if (references_.load(std::memory_order_acquire) != references) return claim();
    if (state_.load(std::memory_order_relaxed) != kQueued) return false;
    state_.store(kRunning, std::memory_order_relaxed);
    return true;
  }
  // Of a claimed request whose status is set and that is counted, within a
  // Completing: calls on_complete, wakes who waits. Then drops so many references:
  // the request may be gone. Leaving the admission comes after, by whoever answers,
  // for all that are answered together.
  void answer(uint32_t references);
  // Sets the status of one that did not run, counts and answers it.
  void answer_unserved(Status result, TimePoint now, uint32_t references);
  void drop(uint32_t references) noexcept {
    // Who holds all that are left needs no read-modify-write to drop them.
    // acquire and acq_rel: every use before a release is seen by whoever
    // releases last.
    if (references_.load(std::memory_order_acquire) == references ||
        references_.fetch_sub(references, std::memory_order_acq_rel) == references) {
      give_back();
    }
  }
  void give_back() noexcept;
  void forget_inputs() {
    for (Tensor& input : inputs) {
      input.data = nullptr;
      input.buffer.reset();
    }
  }
  // claim(), answer_unserved() and leaving.
  bool abandon(ErrorCode code, const char* message);
};

// A counted reference; the last one gives the request back to its pool.
class RequestRef {
 public:
  RequestRef() = default;
  explicit RequestRef(Request& request) : request_(&request) {
    request.references_.fetch_add(1, std::memory_order_relaxed);
  }
  RequestRef(const RequestRef& other) : request_(other.request_) {
    if (request_ != nullptr) request_->references_.fetch_add(1, std::memory_order_relaxed);
  }
  RequestRef(RequestRef&& other) noexcept : request_(std::exchange(other.request_, nullptr)) {}
  RequestRef& operator=(RequestRef other) noexcept {
    std::swap(request_, other.request_);
    return *this;
  }
  ~RequestRef() { reset(); }

  void reset() noexcept {
    Request* const request = std::exchange(request_, nullptr);
    if (request != nullptr) request->drop(1);
  }
  // Gives up the reference without dropping it; adopt() takes it back.
  Request* detach() { return std::exchange(request_, nullptr); }
  static RequestRef adopt(Request* request) {
    RequestRef ref;
    ref.request_ = request;
    return ref;
  }

  explicit operator bool() const { return request_ != nullptr; }
  Request* get() const { return request_; }
  Request& operator*() const { return *request_; }
  Request* operator->() const { return request_; }

 private:
  Request* request_ = nullptr;
};

}  // namespace pyruntime
