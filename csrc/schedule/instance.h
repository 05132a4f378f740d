// A share of a session with a stream and room for batches in flight, used by
// one owner at a time: a blocking caller or the instance's resident thread.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/cache_line.h"
#include "base/event_count.h"
#include "memory/stream.h"
#include "schedule/batch_slot.h"
#include "schedule/batcher.h"

namespace pyruntime {

class Instance {
 public:
  // Batches in flight at once: two where the device works beside the host, so
  // that one is gathered while the other runs.
  explicit Instance(const SlotContext& context);

  // Threads: these from any.

  // A read-modify-write even when it fails; see Scheduler.
  bool try_own() { return owned_.exchange(1, std::memory_order_acq_rel) == 0; }
  void disown() { owned_.exchange(0, std::memory_order_acq_rel); }
  // A hint.
  bool looks_free() const { return owned_.load(std::memory_order_relaxed) == 0; }
  // Exact, by a read-modify-write.
  bool is_owned() { return owned_.fetch_or(0, std::memory_order_acq_rel) != 0; }

  // Where the resident thread sleeps.
  EventCount& events() { return events_; }
  // Whether new requests concern the resident while it owns the instance.
  bool has_several_slots() const { return slots_.size() > 1; }

  // Threads: the rest by the owner alone.

  bool has_free_slot() const { return running_ < slots_.size(); }
  bool has_running() const { return running_ != 0; }
  bool is_ready() { return running_ != 0 && oldest().is_ready(); }
  bool has_carry() const { return carry_ != nullptr; }

  // The batch that is being formed, and what did not fit in it.
  Batch& batch() { return batch_; }
  Request*& carry() { return carry_; }

  // Runs batch(), sealed, in a free slot. On the host's own devices it is done
  // when this returns.
  void start(Batcher& batcher);
  // Completes the oldest running batch if it is ready, or waits for it.
  bool finish_if_ready(Batcher& batcher);
  void finish_oldest(Batcher& batcher);

 private:
  BatchSlot& oldest() { return *slots_[oldest_]; }

  const std::unique_ptr<Stream> stream_;
  const bool is_synchronous_;
  std::vector<std::unique_ptr<BatchSlot>> slots_;

  // The owner's.
  Batch batch_;
  Request* carry_ = nullptr;
  std::size_t oldest_ = 0;   // slot of the oldest running batch
  std::size_t running_ = 0;  // slots in use, from oldest_ on

  alignas(kCacheLine) std::atomic<uint32_t> owned_{0};
  EventCount events_;
};

}  // namespace pyruntime
