// Streams and events of a GPU.
//
// A call that the driver refuses fails what was given to the stream up to the
// next event, which carries it. What fails on the GPU itself, later, is an error
// of its whole context: the driver answers every call with it from then on, and
// so do events that are asked.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "memory/cuda_context.h"
#include "memory/stream.h"

namespace pyruntime {

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(const CudaContext& context);  // must outlive this; throws Error
  ~CudaEvent() override;

  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  bool is_ready() const override;
  Status wait() override;
  Status status() const override;

  cuda::Event handle() const { return handle_; }
  // How often it was recorded.
  uint64_t records() const { return records_.load(std::memory_order_relaxed); }
  // By the stream: what failed before the moment that is recorded now.
  void recorded(const Status& failure);
  Status carried() const;

 private:
  const CudaContext& context_;
  cuda::Event handle_ = nullptr;
  std::atomic<uint64_t> records_{0};

  mutable std::mutex mutex_;  // guards failure_
  Status failure_;
  std::atomic<bool> has_failure_{false};  // written under the mutex
};

// Calls functions when events are ready. A thread that sleeps in the driver:
// a function that the driver calls itself would hold up what comes behind it in
// the stream, and is not called when an error ends the context.
class CudaWaiter {
 public:
  explicit CudaWaiter(const CudaContext& context) : context_(context) {}
  ~CudaWaiter();  // after all calls

  CudaWaiter(const CudaWaiter&) = delete;
  CudaWaiter& operator=(const CudaWaiter&) = delete;

  // In the order of the events' stream.
  void notify(const CudaEvent& event, void (*function)(void* context), void* context);

 private:
  struct Wait {
    const CudaEvent* event;
    uint64_t record;
    void (*function)(void* context);
    void* context;
  };
  void run();

  const CudaContext& context_;
  std::mutex mutex_;  // guards what is below
  std::condition_variable changed_;
  std::deque<Wait> waits_;
  bool is_closing_ = false;
  std::thread thread_;  // started by the first wait
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(const CudaContext& context);  // must outlive this; throws Error
  ~CudaStream() override;

  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void copy(void* destination, const void* source, std::size_t size_bytes, CopyKind kind) override;
  void record(Event& event) override;
  void wait(Event& event) override;
  void call(void (*function)(void* context), void* context) override;
  void notify(Event& event, void (*function)(void* context), void* context) override;
  Status synchronize() override;
  void* native_handle() const override { return handle_; }

 private:
  Status give_copy(void* destination, const void* source, std::size_t size_bytes, CopyKind kind);
  void fail(Status status);
  CudaEvent* own(Event& event);

  const CudaContext& context_;
  cuda::Stream handle_ = nullptr;
  Status status_;  // sticky until the next record() or synchronize()
  CudaWaiter waiter_;
};

}  // namespace pyruntime
