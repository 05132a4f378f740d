#include "schedule/instance.h"

namespace pyruntime {

Instance::Instance(const SlotContext& context)
    : stats_(context.stats.add_instance()),
      stream_(context.backend.create_stream()),
      is_synchronous_(context.backend.is_host_accessible()) {
  const std::size_t slots = is_synchronous_ ? 1 : 2;
  for (std::size_t i = 0; i < slots; ++i) {
    slots_.push_back(std::make_unique<BatchSlot>(context, *stream_, stats_));
  }
  batch_.members.reserve(static_cast<std::size_t>(context.max_rows));
}

void Instance::start() {
  BatchSlot& slot = *slots_[(oldest_ + running_) % slots_.size()];
  slot.start(batch_);
  ++running_;
  if (is_synchronous_) return;
  // Wakes the resident if it sleeps when the batch is done.
  stream_->call([](void* events) { static_cast<EventCount*>(events)->notify_all(); }, &events_);
}

bool Instance::finish_if_ready(Batcher& batcher) {
  if (running_ == 0 || !oldest().is_ready()) return false;
  finish_oldest(batcher);
  return true;
}

void Instance::finish_oldest(Batcher& batcher) {
  if (!oldest().finish()) batcher.stop_batching();
  oldest_ = (oldest_ + 1) % slots_.size();
  --running_;
}

}  // namespace pyruntime
