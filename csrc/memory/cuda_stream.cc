#include "memory/cuda_stream.h"

#include <cstring>
#include <memory>
#include <utility>

#include <pthread.h>

namespace pyruntime {
namespace {

cuda::DevicePointer address_of(const void* memory) {
  return reinterpret_cast<cuda::DevicePointer>(memory);
}

// Work for a thread of the driver's, made for one call.
struct HostCall {
  void (*function)(void* context);
  void* context;
  static void run(cuda::Stream, cuda::Result, void* self) {
    const std::unique_ptr<HostCall> call(static_cast<HostCall*>(self));
    call->function(call->context);
  }
};

struct HostCopy {
  void* destination;
  const void* source;
  std::size_t size_bytes;
  static void run(cuda::Stream, cuda::Result result, void* self) {
    const std::unique_ptr<HostCopy> copy(static_cast<HostCopy*>(self));
    if (result == cuda::kSuccess) std::memcpy(copy->destination, copy->source, copy->size_bytes);
  }
};

}  // namespace

CudaEvent::CudaEvent(const CudaContext& context) : context_(context) {
  context
      .check(context.driver().cuEventCreate, &handle_,
             cuda::kEventDisableTiming | cuda::kEventBlockingSync)
      .throw_if_failed();
}

CudaEvent::~CudaEvent() {
  const auto& destroy = context_.driver().cuEventDestroy;
  context_.log_failure(destroy.name, context_.call(destroy, handle_));
}

bool CudaEvent::is_ready() const {
  return context_.call(context_.driver().cuEventQuery, handle_) != cuda::kNotReady;
}

Status CudaEvent::wait() {
  Status status = context_.check(context_.driver().cuEventSynchronize, handle_);
  return has_failure_.load(std::memory_order_acquire) ? carried() : status;
}

Status CudaEvent::status() const {
  if (has_failure_.load(std::memory_order_acquire)) return carried();
  const auto& query = context_.driver().cuEventQuery;
  const cuda::Result result = context_.call(query, handle_);
  if (result == cuda::kSuccess || result == cuda::kNotReady) return {};
  return context_.failure(query.name, result);
}

void CudaEvent::recorded(const Status& failure) {
  records_.fetch_add(1, std::memory_order_relaxed);
  if (failure.ok() && !has_failure_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  failure_ = failure;
  has_failure_.store(!failure.ok(), std::memory_order_release);  // pairs with the acquires above
}

Status CudaEvent::carried() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

CudaWaiter::~CudaWaiter() {
  {
    const std::lock_guard lock(mutex_);
    is_closing_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void CudaWaiter::notify(const CudaEvent& event, void (*function)(void* context), void* context) {
  {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) {
      thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), "pyrt-cuda-wait");
        run();
      });
    }
    waits_.push_back({&event, event.records(), function, context});
  }
  changed_.notify_one();
}

void CudaWaiter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_closing_ || !waits_.empty(); });
    if (waits_.empty()) return;
    const Wait wait = waits_.front();
    waits_.pop_front();
    lock.unlock();
    // An event that was recorded anew has been seen ready, and this thread was slow.
    if (wait.event->records() == wait.record) {
      // What fails is found by who asks the event.
      (void)context_.call(context_.driver().cuEventSynchronize, wait.event->handle());
    }
    wait.function(wait.context);
    lock.lock();
  }
}

CudaStream::CudaStream(const CudaContext& context) : context_(context), waiter_(context) {
  // Non-blocking: no implicit order with the default stream that others may use.
  context.check(context.driver().cuStreamCreate, &handle_, cuda::kStreamNonBlocking)
      .throw_if_failed();
}

CudaStream::~CudaStream() {
  const cuda::Driver& driver = context_.driver();
  context_.log_failure(driver.cuStreamSynchronize.name,
                       context_.call(driver.cuStreamSynchronize, handle_));
  context_.log_failure(driver.cuStreamDestroy.name, context_.call(driver.cuStreamDestroy, handle_));
}

void CudaStream::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

CudaEvent* CudaStream::own(Event& event) {
  auto* const own = dynamic_cast<CudaEvent*>(&event);
  if (own == nullptr) {
    fail({ErrorCode::kEngineError, "device '" + context_.device().name() +
                                       "': expected an event of CUDA, got one of another backend"});
  }
  return own;
}

Status CudaStream::give_copy(void* destination, const void* source, std::size_t size_bytes,
                             CopyKind kind) {
  const cuda::Driver& driver = context_.driver();
  switch (kind) {
    case CopyKind::kHostToDevice:
      return context_.check(driver.cuMemcpyHtoDAsync, address_of(destination), source, size_bytes,
                            handle_);
    case CopyKind::kDeviceToHost:
      return context_.check(driver.cuMemcpyDtoHAsync, destination, address_of(source), size_bytes,
                            handle_);
    case CopyKind::kDeviceToDevice:
      return context_.check(driver.cuMemcpyDtoDAsync, address_of(destination), address_of(source),
                            size_bytes, handle_);
    case CopyKind::kHostToHost:
      break;
  }
  // The driver's own copy between host memory waits for the stream.
  auto copy = std::make_unique<HostCopy>(HostCopy{destination, source, size_bytes});
  Status status = context_.check(driver.cuStreamAddCallback, handle_, &HostCopy::run,
                                 static_cast<void*>(copy.get()), 0U);
  if (status.ok()) [[maybe_unused]]
    const HostCopy* const given = copy.release();
  return status;
}

void CudaStream::copy(void* destination, const void* source, std::size_t size_bytes,
                      CopyKind kind) {
  if (size_bytes == 0 || !status_.ok()) return;
  fail(give_copy(destination, source, size_bytes, kind));
}

void CudaStream::record(Event& event) {
  CudaEvent* const own_event = own(event);
  if (own_event == nullptr) return;
  if (Status status = context_.check(context_.driver().cuEventRecord, own_event->handle(), handle_);
      !status.ok()) {
    // The event would seem ready, while what was given before may still be under way.
    (void)context_.call(context_.driver().cuStreamSynchronize, handle_);
    fail(std::move(status));
  }
  own_event->recorded(std::exchange(status_, Status()));
}

void CudaStream::wait(Event& event) {
  CudaEvent* const own_event = own(event);
  if (own_event == nullptr) return;
  fail(own_event->carried());
  if (Status status =
          context_.check(context_.driver().cuStreamWaitEvent, handle_, own_event->handle(), 0U);
      !status.ok()) {
    // What is given next, and the next event, would come before it.
    (void)context_.call(context_.driver().cuEventSynchronize, own_event->handle());
    fail(std::move(status));
  }
}

void CudaStream::call(void (*function)(void* context), void* context) {
  // Not cuLaunchHostFunc(): that does not call when an error has ended the context.
  auto call = std::make_unique<HostCall>(HostCall{function, context});
  Status status = context_.check(context_.driver().cuStreamAddCallback, handle_, &HostCall::run,
                                 static_cast<void*>(call.get()), 0U);
  if (status.ok()) {
    [[maybe_unused]] const HostCall* const given = call.release();
    return;
  }
  fail(std::move(status));
  (void)context_.call(context_.driver().cuStreamSynchronize, handle_);
  function(context);
}

void CudaStream::notify(Event& event, void (*function)(void* context), void* context) {
  if (CudaEvent* const own_event = own(event)) {
    waiter_.notify(*own_event, function, context);
  } else {
    function(context);
  }
}

Status CudaStream::synchronize() {
  fail(context_.check(context_.driver().cuStreamSynchronize, handle_));
  return std::exchange(status_, Status());
}

}  // namespace pyruntime
