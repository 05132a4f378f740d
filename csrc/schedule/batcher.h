// Keeps the requests that wait and groups them into batches.
//
// A lane per shape bucket and priority. Requests whose inputs agree in all
// dimensions but the first, once padded where the user allows it, share a
// bucket; buckets are made as shapes appear, up to kMaxBuckets, after which a
// new shape runs without company.
//
// A higher priority goes first, and within one the earliest deadline. So that
// no priority is starved, one that others went before for Lane::kPatience leads the
// next batch.
//
// Threads: submit() from any. collect() and seal() from owners of instances,
// several at once where each brings its own batch and carry.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "schedule/admission.h"
#include "schedule/batch.h"
#include "schedule/batching_options.h"
#include "schedule/cost_model.h"
#include "schedule/lane.h"
#include "schedule/padding.h"
#include "schedule/request.h"

namespace pyruntime {

struct Bucket {
  Bucket(std::size_t at, std::vector<Shape> input_tails, int64_t max_rows, bool is_single,
         bool is_fixed)
      : index(at),
        tails(std::move(input_tails)),
        runs_alone(is_single),
        has_fixed_shapes(is_fixed),
        cost(max_rows) {}
  ~Bucket();

  bool is_empty() const;

  const std::size_t index;
  const std::vector<Shape> tails;  // of each input when padded, without dimension 0
  const bool runs_alone;           // one request a batch, as it is
  const bool has_fixed_shapes;     // bucket and rows say the shape of every input
  CostModel cost;
  std::array<std::atomic<Lane*>, kPriorityCount> lanes{};
};

class Batcher {
 public:
  static constexpr std::size_t kMaxBuckets = 128;

  // All but the options must outlive it.
  Batcher(const BatchingOptions& options, const Signature& signature, Padding& padding,
          Admission& admission, const Clock& clock);
  // Drops the entries of requests that were completed while they waited.
  ~Batcher();

  // What a bucket's batches cost, for readers.
  struct BucketCost {
    std::vector<Shape> tails;  // of each input, without dimension 0; empty: runs alone
    int64_t limit = 0;         // rows of a batch
    std::vector<CostModel::Point> points;
  };

  // Finds the request's place. It may make one, and throw bad_alloc.
  void prepare(Request& request, int64_t rows);
  // When a prepared request would be answered if it were queued now, for
  // `runners` batches at once and as far as costs are known.
  TimePoint expected_end(const Request& request, TimePoint now, int64_t runners) const;
  // How long the next batch will take, about; zero while nothing is known.
  Nanoseconds expected_run() const;
  // Queues a prepared request that `admission` has let in, and takes references
  // to it, of which the caller gives so many of its own. It cannot fail: the rings
  // hold as many as may be let in.
  void submit(Request& request, uint32_t given);
  // The same, but straight into a batch that is empty or that it may join.
  void submit_to(Batch& batch, Request& request, uint32_t given);
  // Whether a prepared request may join an unsealed batch out of turn: it fits, and
  // nobody waited when the first one joined.
  bool may_join(const Batch& batch, const Request& request) const;

  // Adds waiting requests to `batch` until it is full or none fits. One that
  // was taken out and did not fit is left in `carry`, to be the next batch's
  // first. Returns whether anything was added.
  bool collect(Batch& batch, Request*& carry);

  // Whether nothing more may join.
  bool is_full(const Batch& batch) const {
    return !batch.is_empty() && is_full(batch, batch.bucket->cost.limit());
  }

  // Whether `batch` should run now rather than wait for company.
  bool is_due(const Batch& batch, const Request* carry, TimePoint now) const;
  // When it will be.
  TimePoint due_at(const Batch& batch) const;

  // Claims the members; those that were cancelled or whose deadline would pass
  // before their answer leave the batch, completed, and so do those that have
  // waited longer than the queue_timeout. Returns whether any is left.
  bool seal(Batch& batch, TimePoint now);

  bool is_empty() const;

  // From now on each request runs alone: the model's outputs turned out not to
  // follow its rows.
  void stop_batching() { batches_.store(false, std::memory_order_relaxed); }
  bool is_batching() const { return batches_.load(std::memory_order_relaxed); }

  const BatchingOptions& options() const { return options_; }

  // Of the buckets that have run a batch.
  std::vector<BucketCost> costs() const;

 private:
  Bucket& bucket_of(const Request& request, int64_t rows) {
    // Where nothing but the rows is dynamic there is one bucket beside [0].
    if (!has_dynamic_tails_ && rows != 0 && is_batching() &&
        bucket_count_.load(std::memory_order_acquire) > 1) {  // pairs with make_bucket()
      return *buckets_[1].load(std::memory_order_relaxed);
    }
    return *find_bucket(request, rows);
  }
  Bucket* find_bucket(const Request& request, int64_t rows);
  Bucket* make_bucket(const Request& request, const Padding::Sizes& sizes);
  bool is_of(const Bucket& bucket, const Request& request, const Padding::Sizes& sizes) const;
  Lane& lane_of(Bucket& bucket, Priority priority) {
    // pairs with the store in make_lane()
    Lane* const lane =
        bucket.lanes[static_cast<std::size_t>(priority)].load(std::memory_order_acquire);
    return lane != nullptr ? *lane : make_lane(bucket, priority);
  }
  Lane& make_lane(Bucket& bucket, Priority priority);
  void enter(Request& request, uint32_t given);
  void add(Batch& batch, const Lane::Entry& entry) const {
    batch.members.push_back(entry.request);
    batch.rows += entry.rows;
    if (entry.is_dated) batch.deadline = std::min(batch.deadline, entry.due);
    if (options_.max_delay.count() == 0) {
      entry.request->prefetch();  // looked at when the batch is sealed
    } else {
      set_wait(batch, *entry.request);
    }
  }
  bool is_full(const Batch& batch, int64_t limit) const {
    return batch.rows >= limit || static_cast<int64_t>(batch.members.size()) >= limit ||
           batch.bucket->runs_alone || !is_batching();
  }
  void set_wait(Batch& batch, const Request& request) const;
  // Whether the batch's most urgent member would miss its deadline with it, and
  // not without.
  bool makes_late(const Batch& batch, const Lane::Entry& entry) const {
    const TimePoint deadline =
        entry.is_dated ? std::min(batch.deadline, entry.due) : batch.deadline;
    return deadline != kNever && makes_late(batch, entry.rows, deadline);
  }
  bool makes_late(const Batch& batch, int64_t rows, TimePoint deadline) const;
  // The first member, and with it the bucket.
  bool begin(Batch& batch, Request*& carry);
  bool has_work_beside(const Bucket& bucket) const;
  bool has_work(std::size_t priority) const;
  bool pop(Bucket& bucket, std::size_t priority, Lane::Entry* entry);
  bool pop(Bucket& bucket, Lane::Entry* entry);
  bool pop_any(std::size_t priority, Lane::Entry* entry);
  bool pop_starved(Lane::Entry* entry);
  bool pop_any(Lane::Entry* entry);
  bool has_come(std::size_t priority) const {
    return (priorities_.load(std::memory_order_relaxed) >> priority & 1U) != 0;
  }
  void leave_queue(const Batch& batch);
  bool has_waited_too_long(int64_t waited_ns) const {
    const Nanoseconds timeout = options_.queue_timeout;
    return timeout.count() != 0 && waited_ns > timeout.count();
  }

  // Constant after construction.
  const BatchingOptions options_;
  const bool has_dynamic_tails_;
  Padding& padding_;
  Admission& admission_;
  const Clock& clock_;

  std::atomic<bool> batches_;
  std::array<std::atomic<Bucket*>, kMaxBuckets + 1> buckets_{};  // [0]: runs alone
  std::atomic<std::size_t> bucket_count_{0};                     // made so far
  std::atomic<std::size_t> next_bucket_{0};                      // where pop_any() looks first
  std::mutex make_mutex_;  // guards making of buckets and lanes

  std::atomic<uint8_t> priorities_{0};  // that have come so far, a bit each
  // Since when a priority has had work and others went first, ns; 0: it has not.
  std::array<std::atomic<int64_t>, kPriorityCount> passed_over_since_{};
  std::atomic<double> rows_a_request_{1};  // smoothed
};

}  // namespace pyruntime
