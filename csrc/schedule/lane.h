// The requests of one shape and one priority that wait, the most urgent first.
//
// Submitters push onto lock-free rings. Requests without a deadline need no
// more: first in, first out. Those with one have a ring of their own, from
// which whoever forms a batch sorts them by their deadlines, under a lock that
// no submitter ever takes. Beside them, a request without a deadline counts as
// due kPatience after it came.
//
// Threads: all calls from any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/bounded_queue.h"
#include "base/clock.h"

namespace pyruntime {

class Request;
struct Bucket;

class Lane {
 public:
  // Says all that forming a batch has to know: the request itself, which lies
  // in another core's cache, need not be looked at.
  struct Entry {
    Request* request = nullptr;
    int64_t rows = 0;
    TimePoint due{};        // its deadline, or when it will have waited for kPatience
    bool is_dated = false;  // it has a deadline
  };

  static constexpr Nanoseconds kPatience = std::chrono::seconds(1);

  // bucket: whose lane it is; must outlive it. capacity: requests that may wait.
  Lane(Bucket& bucket, std::size_t capacity) : bucket_(bucket), capacity_(capacity) {}
  ~Lane();

  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  Bucket& bucket() const { return bucket_; }

  // Makes room for requests with or without a deadline. Throws std::bad_alloc.
  void prepare(bool has_deadline) {
    const Kind kind = has_deadline ? kDated : kUndated;
    if (ring(kind) == nullptr) make_ring(kind);
  }
  // After prepare(). False when full, or while a cell is still being emptied.
  [[nodiscard]] bool try_push(Entry& entry, bool has_deadline) {
    return ring(has_deadline ? kDated : kUndated)->try_push(entry);
  }

  [[nodiscard]] bool try_pop(Entry* entry) {
    const Ring* const dated = ring(kDated);
    if (dated != nullptr && (sorted_.load(std::memory_order_acquire) != 0 || !dated->is_empty())) {
      return pop_sorted(entry);
    }
    Ring* const undated = ring(kUndated);
    return undated != nullptr && undated->try_pop(*entry);
  }

  // Whether a pop would have found nothing, but for what another thread is
  // about to take or has not published yet.
  bool is_empty() const;

  // How many wait, about.
  int64_t dated_size() const;
  int64_t size() const;

 private:
  using Ring = BoundedQueue<Entry>;
  enum Kind : std::size_t { kUndated, kDated, kKinds };

  void make_ring(Kind kind);
  bool pop_sorted(Entry* entry);
  const Ring* ring(Kind kind) const { return rings_[kind].load(std::memory_order_acquire); }
  Ring* ring(Kind kind) { return rings_[kind].load(std::memory_order_acquire); }

  Bucket& bucket_;
  const std::size_t capacity_;
  std::array<std::atomic<Ring*>, kKinds> rings_{};  // made when first needed

  // Entries below, and one more while someone is about to take some.
  std::atomic<int64_t> sorted_{0};
  std::mutex mutex_;           // guards what is below, and the making of rings
  std::vector<Entry> by_due_;  // a heap
  bool has_next_undated_ = false;
  Entry next_undated_;  // the oldest without a deadline, to be compared
};

}  // namespace pyruntime
