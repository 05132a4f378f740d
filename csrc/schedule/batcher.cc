#include "schedule/batcher.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <string>
#include <thread>
#include <utility>

namespace pyruntime {
namespace {

bool is_dynamic(int64_t dim) { return dim < 0; }

bool any_dynamic(const TensorSpec& spec, std::size_t from) {
  if (spec.has_any_rank) return true;
  return spec.dims.size() > from &&
         std::any_of(spec.dims.begin() + static_cast<std::ptrdiff_t>(from), spec.dims.end(),
                     is_dynamic);
}

bool any_dynamic_input(const Signature& signature, std::size_t from) {
  return std::any_of(signature.inputs.begin(), signature.inputs.end(),
                     [&](const TensorSpec& spec) { return any_dynamic(spec, from); });
}

Status late(const Request& request, TimePoint now, Nanoseconds run) {
  const auto in_us = [](Nanoseconds time) { return std::to_string(time.count() / 1000) + " us"; };
  const std::string waited = in_us(Nanoseconds(request.timing.queue_ns)) + " in the queue";
  const Nanoseconds left = request.deadline - now;
  if (left.count() < 0)
    return {ErrorCode::kDeadlineExceeded, "the deadline passed after " + waited};
  return {ErrorCode::kDeadlineExceeded,
          "the deadline would have passed during the run: " + in_us(left) + " left after " +
              waited + ", " + in_us(run) + " expected"};
}

Status timed_out(int64_t waited_ns, std::chrono::microseconds timeout) {
  return {ErrorCode::kDeadlineExceeded,
          "waited " + std::to_string(waited_ns / 1000) +
              " us in the queue, longer than the model allows: " + std::to_string(timeout.count()) +
              " us (batching.queue_timeout_us)"};
}

std::span<const int64_t> tail(const Shape& shape) {
  return shape.rank() == 0 ? shape.dims() : shape.dims().subspan(1);
}

}  // namespace

Bucket::~Bucket() {
  for (auto& lane : lanes) delete lane.load(std::memory_order_relaxed);
}

bool Bucket::is_empty() const {
  return std::all_of(lanes.begin(), lanes.end(), [](const auto& slot) {
    const Lane* const lane = slot.load(std::memory_order_acquire);
    return lane == nullptr || lane->is_empty();
  });
}

Batcher::Batcher(const BatchingOptions& options, const Signature& signature, Padding& padding,
                 Admission& admission, const Clock& clock)
    : options_(options),
      has_dynamic_tails_(any_dynamic_input(signature, 1)),
      padding_(padding),
      admission_(admission),
      clock_(clock),
      batches_(signature.is_batchable && options.may_batch()) {
  // With no dynamic dimension, or none but the rows, the rows say it all.
  const bool is_fixed = !any_dynamic_input(signature, signature.is_batchable ? 1 : 0);
  buckets_[0] = new Bucket(0, {}, /*max_rows=*/1, /*is_single=*/true, is_fixed);
  bucket_count_ = 1;
}

Batcher::~Batcher() {
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    Bucket* const bucket = buckets_[i].load(std::memory_order_relaxed);
    for (Lane::Entry entry; pop(*bucket, &entry);) {
      admission_.leave_queue(1, entry.rows, entry.request->bytes_);
      RequestRef::adopt(entry.request).reset();
    }
    delete bucket;
  }
}

void Batcher::prepare(Request& request, int64_t rows) {
  request.rows_ = rows;
  request.bytes_ = 0;
  if (options_.queue_bytes != 0) {
    for (const Tensor& input : request.inputs) {
      request.bytes_ += static_cast<int64_t>(input.size_bytes());
    }
  }
  request.lane_ = &lane_of(bucket_of(request, rows), request.priority);
  request.lane_->prepare(request.deadline != kNever);
}

void Batcher::enter(Request& request, uint32_t given) {
  // Two references: the scheduler's, dropped at completion, and the queue's,
  // dropped when the entry is taken out. Where the caller's is the only one
  // nobody else counts.
  const uint32_t more = Batch::kReferences - given;
  if (request.references_.load(std::memory_order_relaxed) == 1) {
    request.references_.store(1 + more, std::memory_order_relaxed);
  } else {
    request.references_.fetch_add(more, std::memory_order_relaxed);
  }
  request.state_.store(Request::kQueued, std::memory_order_release);  // pairs with claim()
}

void Batcher::submit(Request& request, uint32_t given) {
  const bool has_deadline = request.deadline != kNever;
  Lane& lane = *request.lane_;
  Lane::Entry entry{&request, request.rows_,
                    has_deadline ? request.deadline : request.submitted_at_ + Lane::kPatience,
                    has_deadline};
  enter(request, given);
  // A lane has a cell for every request that may wait. A cell can look taken
  // while another thread empties it: some instructions, or a time slice.
  for (int turns = 0; !lane.try_push(entry, has_deadline); ++turns) {
    if (turns < 64) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void Batcher::submit_to(Batch& batch, Request& request, uint32_t given) {
  enter(request, given);
  if (batch.is_empty()) {
    batch.clear();
    batch.bucket = &request.lane_->bucket();
  }
  batch.members.push_back(&request);
  batch.rows += request.rows_;
}

bool Batcher::may_join(const Batch& batch, const Request& request) const {
  if (request.deadline != kNever) return false;
  if (batch.is_empty()) return is_empty();
  return batch.bucket == &request.lane_->bucket() && !is_full(batch) &&
         batch.rows + request.rows_ <= batch.bucket->cost.limit();
}

void Batcher::set_wait(Batch& batch, const Request& request) const {
  if (batch.members.size() == 1) {
    batch.oldest = request.submitted_at_;
    batch.latest = kNever;
  }
  batch.oldest = std::min(batch.oldest, request.submitted_at_);
  if (request.deadline != kNever) {
    // Half of the time is left for what comes after the wait.
    const Nanoseconds half = (request.deadline - request.submitted_at_) / 2;
    batch.latest = std::min(batch.latest, request.submitted_at_ + half);
  }
  if (options_.queue_timeout.count() != 0) {
    batch.latest = std::min(batch.latest, request.submitted_at_ + options_.queue_timeout / 2);
  }
}

Bucket* Batcher::find_bucket(const Request& request, int64_t rows) {
  Bucket* const alone = buckets_[0].load(std::memory_order_relaxed);
  if (!is_batching() || rows == 0) return alone;
  const std::size_t count =
      bucket_count_.load(std::memory_order_acquire);  // pairs with make_bucket()
  Padding::Sizes sizes{};
  if (!padding_.is_empty()) sizes = padding_.choose(request.inputs);
  for (std::size_t i = 1; i < count; ++i) {
    Bucket* const bucket = buckets_[i].load(std::memory_order_relaxed);
    if (is_of(*bucket, request, sizes)) return bucket;
  }
  if (count <= kMaxBuckets) return make_bucket(request, sizes);
  return alone;
}

bool Batcher::is_of(const Bucket& bucket, const Request& request,
                    const Padding::Sizes& sizes) const {
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const Shape& shape = request.inputs[i].shape;
    const bool same =
        padding_.is_empty()
            ? std::ranges::equal(tail(shape), bucket.tails[i].dims())
            : std::ranges::equal(tail(padding_.padded(i, shape, sizes)), bucket.tails[i].dims());
    if (!same) return false;
  }
  return true;
}

Bucket* Batcher::make_bucket(const Request& request, const Padding::Sizes& sizes) {
  const std::lock_guard lock(make_mutex_);
  const std::size_t count = bucket_count_.load(std::memory_order_relaxed);
  for (std::size_t i = 1; i < count; ++i) {  // someone may have been faster
    Bucket* const bucket = buckets_[i].load(std::memory_order_relaxed);
    if (is_of(*bucket, request, sizes)) return bucket;
  }
  if (count > kMaxBuckets) return buckets_[0].load(std::memory_order_relaxed);
  std::vector<Shape> tails;
  tails.reserve(request.inputs.size());
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const Shape& shape = request.inputs[i].shape;
    tails.emplace_back(tail(padding_.is_empty() ? shape : padding_.padded(i, shape, sizes)));
  }
  auto* const bucket = new Bucket(count, std::move(tails), options_.max_rows, /*is_single=*/false,
                                  /*is_fixed=*/true);
  buckets_[count].store(bucket, std::memory_order_relaxed);
  bucket_count_.store(count + 1, std::memory_order_release);  // pairs with bucket_of()
  return bucket;
}

Lane& Batcher::make_lane(Bucket& bucket, Priority priority) {
  auto& slot = bucket.lanes[static_cast<std::size_t>(priority)];
  const std::lock_guard lock(make_mutex_);
  Lane* lane = slot.load(std::memory_order_relaxed);
  if (lane == nullptr) {
    lane = new Lane(bucket, static_cast<std::size_t>(options_.queue_capacity));
    // Before anything is pushed, which whoever pops has to see first.
    priorities_.fetch_or(static_cast<uint8_t>(1U << static_cast<unsigned>(priority)),
                         std::memory_order_seq_cst);
    slot.store(lane, std::memory_order_release);  // pairs with lane_of()
  }
  return *lane;
}

// --- taking out

bool Batcher::pop(Bucket& bucket, std::size_t priority, Lane::Entry* entry) {
  Lane* const lane = bucket.lanes[priority].load(std::memory_order_acquire);
  return lane != nullptr && lane->try_pop(entry);
}

bool Batcher::pop(Bucket& bucket, Lane::Entry* entry) {
  for (std::size_t priority = 0; priority < kPriorityCount; ++priority) {
    if (pop(bucket, priority, entry)) return true;
  }
  return false;
}

bool Batcher::has_work(std::size_t priority) const {
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    const Bucket& bucket = *buckets_[i].load(std::memory_order_relaxed);
    const Lane* const lane = bucket.lanes[priority].load(std::memory_order_acquire);
    if (lane != nullptr && !lane->is_empty()) return true;
  }
  return false;
}

bool Batcher::pop_any(std::size_t priority, Lane::Entry* entry) {
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  // Starts elsewhere each time, so that a busy shape does not starve another.
  const std::size_t first =
      count <= 2 ? count - 1 : next_bucket_.fetch_add(1, std::memory_order_relaxed) % count;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = first + i < count ? first + i : first + i - count;
    if (pop(*buckets_[at].load(std::memory_order_relaxed), priority, entry)) return true;
  }
  return false;
}

bool Batcher::pop_starved(Lane::Entry* entry) {
  if (std::has_single_bit(priorities_.load(std::memory_order_relaxed))) return false;
  bool is_higher_waiting = has_work(0);
  for (std::size_t priority = 1; priority < kPriorityCount; ++priority) {
    std::atomic<int64_t>& since = passed_over_since_[priority];
    const bool is_waiting = has_work(priority);
    if (!is_waiting || !is_higher_waiting) {
      since.store(0, std::memory_order_relaxed);  // none waits, or it is its turn
      is_higher_waiting |= is_waiting;
      continue;
    }
    const int64_t now_ns = clock_.now().time_since_epoch().count();
    const int64_t since_ns = since.load(std::memory_order_relaxed);
    const bool is_starved = since_ns != 0 && Nanoseconds(now_ns - since_ns) > Lane::kPatience;
    if (since_ns == 0 || is_starved) since.store(now_ns, std::memory_order_relaxed);
    if (is_starved && pop_any(priority, entry)) return true;
  }
  return false;
}

bool Batcher::pop_any(Lane::Entry* entry) {
  if (pop_starved(entry)) return true;
  for (std::size_t priority = 0; priority < kPriorityCount; ++priority) {
    if (has_come(priority) && pop_any(priority, entry)) return true;
  }
  return false;
}

bool Batcher::makes_late(const Batch& batch, int64_t rows, TimePoint deadline) const {
  const CostModel& cost = batch.bucket->cost;
  const TimePoint now = clock_.now();
  // Who is late without it, too, is no reason to run small batches.
  return now + cost.predict(batch.rows + rows) > deadline &&
         now + cost.predict(batch.rows) <= deadline;
}

bool Batcher::begin(Batch& batch, Request*& carry) {
  Lane::Entry entry;
  if (carry != nullptr) {
    entry = {carry, carry->rows_, carry->deadline, carry->deadline != kNever};
    carry = nullptr;
  } else if (!pop_any(&entry)) {
    return false;
  }
  batch.bucket = &entry.request->lane_->bucket();
  add(batch, entry);
  return true;
}

bool Batcher::collect(Batch& batch, Request*& carry) {
  const std::size_t before = batch.members.size();
  if (batch.is_empty() && !begin(batch, carry)) return false;
  Bucket& bucket = *batch.bucket;
  const int64_t limit = bucket.cost.limit();
  Lane::Entry entry;
  while (carry == nullptr && !is_full(batch, limit) && pop(bucket, &entry)) {
    if (batch.rows + entry.rows > limit || makes_late(batch, entry)) {
      carry = entry.request;
    } else {
      add(batch, entry);
    }
  }
  return batch.members.size() != before;
}

TimePoint Batcher::due_at(const Batch& batch) const {
  return std::min(batch.oldest + Nanoseconds(options_.max_delay), batch.latest);
}

bool Batcher::is_due(const Batch& batch, const Request* carry, TimePoint now) const {
  return options_.max_delay.count() == 0 || carry != nullptr || is_full(batch) ||
         !admission_.is_accepting() || now >= due_at(batch) || has_work_beside(*batch.bucket);
}

bool Batcher::has_work_beside(const Bucket& bucket) const {
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    const Bucket* const other = buckets_[i].load(std::memory_order_relaxed);
    if (other != &bucket && !other->is_empty()) return true;
  }
  return false;
}

void Batcher::leave_queue(const Batch& batch) {
  int64_t rows = 0;
  int64_t bytes = 0;
  const std::size_t first = batch.sealed;
  for (std::size_t i = first; i < batch.members.size(); ++i) {
    rows += batch.members[i]->rows_;
    bytes += batch.members[i]->bytes_;
  }
  const auto count = static_cast<int64_t>(batch.members.size() - first);
  if (count == 0) return;
  const double mean = static_cast<double>(rows) / static_cast<double>(count);
  const double smooth = rows_a_request_.load(std::memory_order_relaxed);
  rows_a_request_.store(smooth + (mean - smooth) / 8, std::memory_order_relaxed);
  // Counters that submitters read: once for all.
  admission_.leave_queue(count, rows, bytes);
}

bool Batcher::seal(Batch& batch, TimePoint now) {
  batch.formed_at = now;
  leave_queue(batch);
  // Who cannot be answered in time makes room for who can. But a lone request is
  // run whatever its chances: it shows what a run costs now.
  const auto taken = static_cast<int64_t>(batch.members.size());
  const Nanoseconds run =
      admission_.outstanding() > taken ? batch.bucket->cost.predict(batch.rows) : Nanoseconds(0);
  std::size_t kept = batch.sealed;
  int64_t expired = 0;
  for (std::size_t i = batch.sealed; i < batch.members.size(); ++i) {
    Request* const request = batch.members[i];
    const int64_t rows = request->rows_;
    if (!request->claim(Batch::kReferences)) {
      batch.rows -= rows;
      request->drop(1);  // the queue's reference
      continue;
    }
    const int64_t waited_ns = (now - request->submitted_at_).count();
    request->timing.queue_ns = waited_ns;
    if (request->deadline != kNever && request->deadline < now + run) {
      batch.rows -= rows;
      request->answer_unserved(late(*request, now, run), now, Batch::kReferences);
      ++expired;
    } else if (has_waited_too_long(waited_ns)) {
      batch.rows -= rows;
      request->answer_unserved(timed_out(waited_ns, options_.queue_timeout), now,
                               Batch::kReferences);
      ++expired;
    } else {
      batch.members[kept++] = request;
    }
  }
  batch.members.resize(kept);
  batch.sealed = kept;
  if (expired != 0) admission_.leave(expired);
  return kept != 0;
}

TimePoint Batcher::expected_end(const Request& request, TimePoint now, int64_t runners) const {
  const auto priority = static_cast<std::size_t>(request.priority);
  const Bucket& mine = request.lane_->bucket();
  const double rows_each = rows_a_request_.load(std::memory_order_relaxed);
  double ahead_ns = 0;
  double last_rows = static_cast<double>(request.rows_);
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    const Bucket& bucket = *buckets_[i].load(std::memory_order_relaxed);
    int64_t ahead = 0;
    for (std::size_t p = 0; p <= priority; ++p) {
      const Lane* const lane = bucket.lanes[p].load(std::memory_order_acquire);
      if (lane == nullptr) continue;
      ahead += p == priority && request.deadline != kNever ? lane->dated_size() : lane->size();
    }
    if (ahead == 0) continue;
    const double rows = static_cast<double>(ahead) * rows_each;
    const auto limit = static_cast<double>(bucket.cost.limit());
    const double batches =
        bucket.runs_alone ? static_cast<double>(ahead) : std::floor(rows / limit);
    ahead_ns += batches * static_cast<double>(bucket.cost.predict(bucket.cost.limit()).count());
    if (&bucket == &mine && !bucket.runs_alone) last_rows += rows - batches * limit;
  }
  const int64_t limit = mine.cost.limit();
  const auto in_last = std::min(static_cast<int64_t>(last_rows), std::max(limit, request.rows_));
  // What runs now may have just begun.
  const Nanoseconds running = admission_.is_running() ? mine.cost.predict(limit) : Nanoseconds(0);
  const Nanoseconds ahead(static_cast<int64_t>(ahead_ns / static_cast<double>(runners)));
  return now + running + ahead + mine.cost.predict(in_last);
}

Nanoseconds Batcher::expected_run() const {
  const double rows_each = rows_a_request_.load(std::memory_order_relaxed);
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    const Bucket& bucket = *buckets_[i].load(std::memory_order_relaxed);
    int64_t waiting = 0;
    for (const auto& slot : bucket.lanes) {
      const Lane* const lane = slot.load(std::memory_order_acquire);
      if (lane != nullptr) waiting += lane->size();
    }
    if (waiting == 0) continue;
    const auto rows = static_cast<int64_t>(static_cast<double>(waiting) * rows_each);
    return bucket.cost.predict(std::clamp<int64_t>(rows, 1, bucket.cost.limit()));
  }
  return Nanoseconds(0);
}

std::vector<Batcher::BucketCost> Batcher::costs() const {
  std::vector<BucketCost> costs;
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    const Bucket& bucket = *buckets_[i].load(std::memory_order_relaxed);
    std::vector<CostModel::Point> points = bucket.cost.points();
    if (points.empty()) continue;
    costs.push_back({bucket.tails, bucket.cost.limit(), std::move(points)});
  }
  return costs;
}

bool Batcher::is_empty() const {
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    if (!buckets_[i].load(std::memory_order_relaxed)->is_empty()) return false;
  }
  return true;
}

}  // namespace pyruntime
