// Runs shadows with the processor time that nobody else wants.
//
// Who answers requests only copies them into a job and pushes that: no lock, no
// wake-up, no wait; where no job is free or memory is short, the copy is
// dropped. One thread under the system's idle policy looks for jobs from time
// to time and runs them one by one. While the processors are busy it hardly
// runs, the jobs stay taken, and copies are dropped before they are made.
//
// The thread runs the shadow's batch itself, so that this too is idle work, and
// in an instance apart, so that none of the version's own requests waits for an
// idle thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "serving/shadow_job.h"

namespace pyruntime {

// Threads: all calls from any.
class ShadowRunner {
 public:
  static constexpr std::size_t kJobs = 64;                            // copies at once
  static constexpr std::size_t kLargestBytes = std::size_t{4} << 20;  // of a request, of an answer
  static constexpr std::size_t kMostBytes = std::size_t{64} << 20;    // of all copies together
  static constexpr std::size_t kKeptBytes = std::size_t{256} << 10;   // of a job without work

  ShadowRunner();
  // Drops what waits.
  ~ShadowRunner();

  // Copies the inputs of a request that is valid for its version, or counts a drop
  // and returns nullptr. The job goes to complete() or drop().
  ShadowJob* copy(std::shared_ptr<const ShadowRoute> route, std::size_t arm,
                  const Request& request) noexcept;
  // Copies the answer and lets the job run; skips it if there is none.
  void complete(ShadowJob* job, const Request& request) noexcept;
  // The request was not accepted.
  void drop(ShadowJob* job) noexcept;

  // Whether anything may come. The thread is started when first needed.
  void set_active(bool is_active);

 private:
  bool keep_copies(TensorCopies& copies, std::span<const Tensor> tensors) noexcept;
  void give_back(ShadowJob* job) noexcept;
  void reside();
  void run(ShadowJob& job);
  void compare(const ShadowJob& job, const Request& answer);

  std::vector<std::unique_ptr<ShadowJob>> jobs_;
  BoundedQueue<ShadowJob*> free_;
  BoundedQueue<ShadowJob*> ready_;
  std::atomic<std::size_t> held_bytes_{0};  // by the jobs, with work or without

  std::mutex mutex_;  // guards what is below
  std::condition_variable changed_;
  bool is_active_ = false;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace pyruntime
