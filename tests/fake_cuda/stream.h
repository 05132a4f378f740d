// Streams and events: a thread to each stream.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "state.h"

namespace fake_cuda {

// What an event and the streams that know it share.
struct Moment {
  uint64_t given = 0;
  uint64_t fired = 0;
  VectorClock clock;  // of what was given last
};

struct Event {
  explicit Event(int on) : device(on) {}
  const int device;
  const std::shared_ptr<Moment> moment = std::make_shared<Moment>();
};

struct Stream {
  explicit Stream(int on);
  ~Stream();

  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // With the mutex held, and released for the time of a synchronous copy.
  int copy(std::unique_lock<std::mutex>& lock, Copy copy);
  void record_locked(const std::shared_ptr<Moment>& moment);
  void wait_locked(const std::shared_ptr<Moment>& moment);
  void call_locked(std::function<void(int result)> function);
  int synchronize(std::unique_lock<std::mutex>& lock);
  void allocate_locked(uintptr_t begin, std::size_t size_bytes);
  // Whether what comes next in this stream comes after all work on that memory.
  bool begin_free_locked(uintptr_t begin, std::size_t size_bytes);

  const int device;

 private:
  // Called with the lock held; may release it meanwhile.
  using Work = std::function<void(std::unique_lock<std::mutex>&)>;

  Device& on() const { return State::instance().devices.at(static_cast<std::size_t>(device)); }
  void begin_next_locked();
  void note_locked(uintptr_t begin, std::size_t size_bytes, bool writes);
  void give_locked(Work work);
  void run();
  void run_copy(std::unique_lock<std::mutex>& lock, Copy& copy);
  void deliver_locked();

  // All guarded by the state's mutex.
  const uint64_t id_;
  uint64_t count_ = 0;  // pieces of work given
  VectorClock clock_;   // what comes before the next one
  std::deque<Work> work_;
  std::vector<Copy> arrived_;  // done, but not delivered to the host
  bool is_closing_ = false;

  std::thread thread_;  // the last member: it uses all others
};

// Waits until what was last given has fired; the context's error if it ends meanwhile.
int wait_for(std::unique_lock<std::mutex>& lock, int device, std::shared_ptr<Moment> moment);

// Whether this thread runs a callback, which may not call the driver.
bool is_in_callback();

}  // namespace fake_cuda
