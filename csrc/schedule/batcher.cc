#include "schedule/batcher.h"

#include <algorithm>
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

std::span<const int64_t> tail(const Shape& shape) {
  return shape.rank() == 0 ? shape.dims() : shape.dims().subspan(1);
}

}  // namespace

Bucket::~Bucket() {
  for (auto& ring : rings) delete ring.load(std::memory_order_relaxed);
}

bool Bucket::is_empty() const {
  return std::all_of(rings.begin(), rings.end(), [](const auto& slot) {
    const BoundedQueue<Request*>* const ring = slot.load(std::memory_order_acquire);
    return ring == nullptr || ring->is_empty();
  });
}

Batcher::Batcher(const BatchingOptions& options, const Signature& signature, Admission& admission)
    : options_(options),
      has_dynamic_tails_(any_dynamic_input(signature, 1)),
      admission_(admission),
      batches_(signature.is_batchable && options.max_rows > 1) {
  // With no dynamic dimension, or none but the rows, the rows say it all.
  const bool is_fixed = !any_dynamic_input(signature, signature.is_batchable ? 1 : 0);
  buckets_[0] = new Bucket(0, {}, /*is_single=*/true, is_fixed);
  bucket_count_ = 1;
}

Batcher::~Batcher() {
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    Bucket* const bucket = buckets_[i].load(std::memory_order_relaxed);
    while (Request* request = pop(*bucket)) drop(request);
    delete bucket;
  }
}

void Batcher::prepare(Request& request, int64_t rows) {
  request.rows_ = rows;
  request.bucket_ = bucket_of(request, rows);
  ring_of(*request.bucket_, request.priority);
}

void Batcher::enter(Request& request) {
  // Two references: the scheduler's, dropped at completion, and the queue's,
  // dropped when the entry is taken out.
  request.references_.fetch_add(2, std::memory_order_relaxed);
  request.state_.store(Request::kQueued, std::memory_order_release);  // pairs with claim()
}

void Batcher::submit(Request& request) {
  enter(request);
  BoundedQueue<Request*>& ring = ring_of(*request.bucket_, request.priority);
  Request* entry = &request;
  // A ring has a cell for every request that may wait. A cell can look taken
  // while another thread empties it: some instructions, or a time slice.
  for (int turns = 0; !ring.try_push(entry); ++turns) {
    if (turns < 64) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void Batcher::submit_to(Batch& batch, Request& request) {
  enter(request);
  batch.clear();
  add(batch, &request);
}

void Batcher::add(Batch& batch, Request* request) const {
  if (batch.is_empty()) {
    batch.bucket = request->bucket_;
    batch.oldest = request->submitted_at_;
    batch.latest = kNever;
  }
  batch.members.push_back(request);
  batch.rows += request->rows_;
  batch.oldest = std::min(batch.oldest, request->submitted_at_);
  if (request->deadline != kNever) {
    // Half of the time is left for what comes after the wait.
    const Nanoseconds half = (request->deadline - request->submitted_at_) / 2;
    batch.latest = std::min(batch.latest, request->submitted_at_ + half);
  }
}

Bucket* Batcher::bucket_of(const Request& request, int64_t rows) {
  Bucket* const alone = buckets_[0].load(std::memory_order_relaxed);
  if (!is_batching() || rows == 0) return alone;
  const std::size_t count =
      bucket_count_.load(std::memory_order_acquire);  // pairs with make_bucket()
  for (std::size_t i = 1; i < count; ++i) {
    Bucket* const bucket = buckets_[i].load(std::memory_order_relaxed);
    if (!has_dynamic_tails_) return bucket;
    const bool same =
        std::equal(request.inputs.begin(), request.inputs.end(), bucket->tails.begin(),
                   [](const Tensor& input, const Shape& shape) {
                     return std::ranges::equal(tail(input.shape), shape.dims());
                   });
    if (same) return bucket;
  }
  if (count <= kMaxBuckets) return make_bucket(request);
  return alone;
}

Bucket* Batcher::make_bucket(const Request& request) {
  const std::lock_guard lock(make_mutex_);
  const std::size_t count = bucket_count_.load(std::memory_order_relaxed);
  std::vector<Shape> tails;
  tails.reserve(request.inputs.size());
  for (const Tensor& input : request.inputs) tails.emplace_back(tail(input.shape));
  for (std::size_t i = 1; i < count; ++i) {  // someone may have been faster
    Bucket* const bucket = buckets_[i].load(std::memory_order_relaxed);
    if (bucket->tails == tails) return bucket;
  }
  if (count > kMaxBuckets) return buckets_[0].load(std::memory_order_relaxed);
  auto* const bucket = new Bucket(count, std::move(tails), /*is_single=*/false, /*is_fixed=*/true);
  buckets_[count].store(bucket, std::memory_order_relaxed);
  bucket_count_.store(count + 1, std::memory_order_release);  // pairs with bucket_of()
  return bucket;
}

BoundedQueue<Request*>& Batcher::ring_of(Bucket& bucket, Priority priority) {
  auto& slot = bucket.rings[static_cast<std::size_t>(priority)];
  BoundedQueue<Request*>* ring =
      slot.load(std::memory_order_acquire);  // pairs with the store below
  if (ring != nullptr) return *ring;
  const std::lock_guard lock(make_mutex_);
  ring = slot.load(std::memory_order_relaxed);
  if (ring == nullptr) {
    ring = new BoundedQueue<Request*>(static_cast<std::size_t>(options_.queue_capacity));
    slot.store(ring, std::memory_order_release);
  }
  return *ring;
}

Request* Batcher::pop(Bucket& bucket, std::size_t priority) {
  BoundedQueue<Request*>* const ring = bucket.rings[priority].load(std::memory_order_acquire);
  if (ring == nullptr) return nullptr;
  Request* request = nullptr;
  while (ring->try_pop(request)) {
    if (request->state_.load(std::memory_order_acquire) == Request::kQueued) return request;
    drop(request);  // completed while it waited
  }
  return nullptr;
}

Request* Batcher::pop(Bucket& bucket) {
  for (std::size_t priority = 0; priority < bucket.rings.size(); ++priority) {
    if (Request* request = pop(bucket, priority)) return request;
  }
  return nullptr;
}

Request* Batcher::pop_any() {
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  // Starts elsewhere each time, so that a busy shape does not starve another.
  const std::size_t first =
      count == 1 ? 0 : next_bucket_.fetch_add(1, std::memory_order_relaxed) % count;
  for (std::size_t priority = 0; priority < kPriorityCount; ++priority) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = first + i < count ? first + i : first + i - count;
      Bucket& bucket = *buckets_[at].load(std::memory_order_relaxed);
      if (Request* request = pop(bucket, priority)) return request;
    }
  }
  return nullptr;
}

void Batcher::drop(Request* request) {
  admission_.leave_queue(1);
  RequestRef::adopt(request).reset();
}

bool Batcher::is_full(const Batch& batch) const {
  const int64_t limit = options_.max_rows;
  return !batch.is_empty() &&
         (batch.bucket->runs_alone || batch.rows >= limit ||
          static_cast<int64_t>(batch.members.size()) >= limit || !is_batching());
}

bool Batcher::collect(Batch& batch, Request*& carry) {
  const int64_t limit = options_.max_rows;
  bool added = false;
  while (carry == nullptr || batch.is_empty()) {
    if (is_full(batch)) break;
    Request* request = std::exchange(carry, nullptr);
    if (request == nullptr) request = batch.is_empty() ? pop_any() : pop(*batch.bucket);
    if (request == nullptr) break;
    if (!batch.is_empty() && batch.rows + request->rows_ > limit) {
      carry = request;
      break;
    }
    add(batch, request);
    added = true;
  }
  return added;
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

bool Batcher::seal(Batch& batch, TimePoint now) {
  batch.formed_at = now;
  batch.rows = 0;
  const std::size_t taken = batch.members.size();
  std::size_t kept = 0;
  int64_t expired = 0;
  for (Request* request : batch.members) {
    if (!request->claim()) {
      request->drop(1);  // the queue's reference
      continue;
    }
    const int64_t waited_ns = (now - request->submitted_at_).count();
    request->timing.queue_ns = waited_ns;
    if (request->deadline < now) {
      request->answer_unserved(
          {ErrorCode::kDeadlineExceeded,
           "the deadline passed after " + std::to_string(waited_ns / 1000) + " us in the queue"},
          now, Batch::kReferences);
      ++expired;
    } else {
      batch.members[kept++] = request;
      batch.rows += request->rows_;
    }
  }
  batch.members.resize(kept);
  // Counters that submitters write too: once for all.
  admission_.leave_queue(static_cast<int64_t>(taken));
  if (expired != 0) admission_.leave(expired);
  return kept != 0;
}

bool Batcher::is_empty() const {
  const std::size_t count = bucket_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    if (!buckets_[i].load(std::memory_order_relaxed)->is_empty()) return false;
  }
  return true;
}

}  // namespace pyruntime
