// Streams and events of a simulated device: a thread to each stream.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "memory/simulated_memory.h"
#include "memory/stream.h"

namespace pyruntime {

// What an event and the streams that know it share; it outlives them all.
//
// Threads: all calls from any.
class SimulatedMoment {
 public:
  uint64_t give();         // a new moment; returns its number
  uint64_t given() const;  // the last one's number, 0: none
  void fire(uint64_t number, const Status& status);
  // Calls function(context) when the last one given fires, on the thread that fires it.
  void notify(void (*function)(void* context), void* context);
  bool is_ready() const;  // whether the last one given has fired
  Status wait(uint64_t number) const;
  Status status() const;

 private:
  mutable std::mutex mutex_;  // guards what is below
  mutable std::condition_variable fired_changed_;
  uint64_t given_ = 0;
  uint64_t fired_ = 0;
  Status status_;  // of fired_
  struct Notice {
    uint64_t number;
    void (*function)(void* context);
    void* context;
  };
  std::vector<Notice> notices_;
};

class SimulatedEvent final : public Event {
 public:
  bool is_ready() const override { return moment_->is_ready(); }
  Status wait() override { return moment_->wait(moment_->given()); }
  Status status() const override { return moment_->status(); }
  const std::shared_ptr<SimulatedMoment>& moment() const { return moment_; }

 private:
  const std::shared_ptr<SimulatedMoment> moment_ = std::make_shared<SimulatedMoment>();
};

class SimulatedStream final : public Stream {
 public:
  explicit SimulatedStream(SimulatedMemory& memory);  // must outlive this
  ~SimulatedStream() override;

  SimulatedStream(const SimulatedStream&) = delete;
  SimulatedStream& operator=(const SimulatedStream&) = delete;

  void copy(void* destination, const void* source, std::size_t size_bytes, CopyKind kind) override;
  void record(Event& event) override;
  void wait(Event& event) override;
  void call(void (*function)(void* context), void* context) override;
  void notify(Event& event, void (*function)(void* context), void* context) override;
  Status synchronize() override;

 private:
  using Work = std::function<void()>;

  void give(Work work);
  void record(const std::shared_ptr<SimulatedMoment>& moment);
  void run();

  // On the thread alone.
  void run_copy(SimulatedCopy& copy);
  void deliver_arrived();

  SimulatedMemory& memory_;

  // The thread's own.
  Status status_;                       // sticky until the next moment
  std::vector<SimulatedCopy> arrived_;  // done, but not delivered to the host

  std::mutex mutex_;  // guards what is below
  std::condition_variable work_changed_;
  std::deque<Work> work_;
  bool is_closing_ = false;

  std::thread thread_;  // the last member: it uses all others
};

}  // namespace pyruntime
