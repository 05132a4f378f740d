// Brings the requests of one model version to its instances.
//
// The hybrid: a caller that will block pushes its request, then tries to own
// an idle instance and runs batches itself, without a thread hop; an
// asynchronous caller only pushes, and an instance's resident thread runs.
// Whoever owns an instance forms each batch from what arrived while the last
// one ran, so that no timer is needed.
//
// No request is forgotten: after pushing, a caller does a read-modify-write on
// each instance's ownership word; an owner gives it up by another and looks at
// the queue again. Whichever comes second sees the other.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "schedule/admission.h"
#include "schedule/answering.h"
#include "schedule/batcher.h"
#include "schedule/core_budget.h"
#include "schedule/instance.h"
#include "schedule/request.h"
#include "schedule/request_pool.h"
#include "schedule/run_plan.h"
#include "schedule/scheduler_stats.h"

namespace pyruntime {

// Threads: all calls from any.
class Scheduler {
 public:
  // Starts one resident thread per instance, which captures its graphs first; throws what that
  // throws. `plan`, `stats` and `clock` must outlive this.
  Scheduler(const BatchingOptions& options, RunPlan& plan,
            std::vector<std::unique_ptr<Instance>> instances, SchedulerStats& stats,
            const Clock& clock);
  // Closes.
  ~Scheduler();

  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Accepts a valid request of `rows` rows, or leaves it with the caller and
  // returns Unavailable, Overloaded where the queue is full, or DeadlineExceeded
  // where the deadline cannot be met.
  [[nodiscard]] Status submit(const RequestRef& request, int64_t rows);
  // The same, and gives the caller's reference up: what nobody else holds is cheaper
  // to answer.
  [[nodiscard]] Status submit(RequestRef&& request, int64_t rows);

  // submit(), then wait, running batches on this thread where an instance is
  // free. When the deadline passes in the queue the request is dropped.
  Status infer(const RequestRef& request, int64_t rows);

  // infer() for what nobody must feel: the request runs alone and on this thread, in an instance
  // of the caller's own. That counts neither as keeping a core busy nor, where the system preempts,
  // for the turns that models take.
  Status infer_aside(Instance& instance, const RequestRef& request, int64_t rows);

  // Runs a request of `rows` rows on each instance, one after the other, beside
  // and before what waits, and counts none of them. make: gives the request, valid, each time.
  Status warm_up(const std::function<RequestRef()>& make, int64_t rows);

  // Refuses new requests.
  void stop_accepting();
  SchedulerStatsSnapshot stats() const;
  HistogramSnapshot total() const { return stats_.total(); }  // of stats(), alone
  std::vector<Batcher::BucketCost> costs() const { return batcher_.costs(); }

  bool is_accepting() const { return admission_.is_accepting(); }
  int64_t outstanding() const { return admission_.outstanding(); }
  // stop_accepting(), then waits until all that was accepted is done.
  void close();

 private:
  // Batches that a blocking caller runs before it hands over.
  static constexpr int kInlineBatches = 4;

  // Callers in a loop, answered by one batch, ask again within a microsecond:
  // too late for a batch formed at once. That one would be of those who waited
  // through the last, the next of the others, and each would pay for a run of
  // its own. So a resident lets a batch grow to its share of those who were in
  // flight, as long as requests keep coming: it looks this often, some tens of
  // nanoseconds each, after the last.
  static constexpr int kLooks = 32;

  // Of an owner. Without a turn there is nothing to run: other models come first.
  FairShare::Turn try_take_turn(Instance& instance);
  FairShare::Turn take_turn(Instance& instance);
  // Forms a batch, in this turn.
  bool form(Instance& instance, int64_t share = 0);
  void let_answered_return(Instance& instance, int64_t share);
  bool form_with_company(Instance& instance);
  void wait_for_company(Instance& instance);
  void pass_on(const Instance& mine);
  void run_inline(Instance& instance, const Request& mine);
  // Starts the next batch, or finishes one that other models wait for; false where neither is to
  // be done.
  bool advance(Instance& instance, int64_t share);
  bool serve(Instance& instance, int64_t* share);
  void wait_for_run_or_request(Instance& instance);
  void finish_oldest(Instance& instance);
  // The batch that is not empty, as it is.
  void run_what_joined(Instance& instance);
  bool finish_if_ready(Instance& instance);
  void give_up(Instance& instance);

  void warm_up(Instance& instance, Request& request);

  // Of others.
  // here: of this thread, or nullptr.
  Status enter(Request& request, int64_t rows, Answering* here);
  void queue(Request& request, uint32_t given, const Answering* here);
  Status check_deadline(const Request& request, TimePoint now) const;
  bool is_led();
  Instance* try_own();
  Instance* try_own_if_free();
  void await(Request& request);
  void notify_residents();
  void reside(Instance& instance);

  // Constant after construction.
  const Clock& clock_;
  CoreBudget& cores_;
  const bool waits_for_company_;  // max_delay is set: only residents form batches
  const bool residents_alone_;    // run batches: company is waited for, or sessions want it so
  const bool notifies_owners_;    // owners may sleep while they wait
  const int64_t slot_count_;      // batches that may run at once
  const bool lets_join_;          // see Answering

  SchedulerStats& stats_;
  Admission admission_;
  Batcher batcher_;
  const std::vector<std::unique_ptr<Instance>> instances_;
  std::atomic<int64_t> warmed_up_{0};       // requests that were let in for it
  std::atomic<Instance*> leader_{nullptr};  // the one whose batch waits for company
  std::atomic<int> seekers_{0};             // blocking callers that look for an instance
  std::atomic<bool> stopping_{false};       // residents end
  std::vector<std::thread> residents_;
};

}  // namespace pyruntime
