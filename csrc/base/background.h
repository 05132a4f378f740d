// Work that must not be felt by those who serve requests.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace pyruntime {

// Makes threads of the priority that run_in_background()'s caller has, for work
// that itself has a lower one: without privileges nobody can raise it again.
//
// Threads: make() from any, until the work is over.
class ThreadMaker {
 public:
  // Throws std::system_error.
  std::thread make(std::function<void()> body);

 private:
  friend void run_in_background(const std::function<void(ThreadMaker&)>& work);

  // Makes what is asked for, until close().
  void serve();
  void close();

  std::mutex mutex_;  // guards what is below
  std::condition_variable changed_;
  std::function<void()> body_;  // empty: nothing is asked for
  std::thread made_;
  std::exception_ptr failure_;
  bool is_closed_ = false;
};

// Runs `work` on a thread of low priority and waits for it; rethrows what it
// throws. Threads that `work` makes have the low priority too, and keep it,
// but for those that it has made by the ThreadMaker.
void run_in_background(const std::function<void(ThreadMaker&)>& work);

}  // namespace pyruntime
