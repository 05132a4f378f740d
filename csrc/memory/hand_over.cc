#include "memory/hand_over.h"

#include <bit>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/slab.h"

namespace pyruntime {
namespace {

// CU_STREAM_LEGACY: ordered with every stream that was not made non-blocking.
void* default_stream() { return std::bit_cast<void*>(uintptr_t{1}); }

}  // namespace

struct HandOver::Lent {
  DeviceBackend* backend = nullptr;
  std::unique_ptr<Stream> stream;  // made when first asked for
  std::unique_ptr<Event> event;
  Slab<Lent>* pool = nullptr;
  uint32_t index = 0;

  static void give_back(void* self) {
    auto* const lent = static_cast<Lent*>(self);
    lent->pool->give(lent->index);
  }
  static Lent* take(DeviceBackend& backend);
};

HandOver::Lent* HandOver::Lent::take(DeviceBackend& backend) {
  static std::mutex mutex;
  // Never destroyed: buffers may outlive main(). Guarded by the mutex.
  static auto& pools = *new std::map<DeviceBackend*, std::unique_ptr<Slab<Lent>>>;
  Slab<Lent>* pool = nullptr;
  {
    const std::lock_guard lock(mutex);
    auto& found = pools[&backend];
    if (found == nullptr) {
      found = std::make_unique<Slab<Lent>>([&backend] {
        auto made = std::make_unique<Lent>();
        made->backend = &backend;
        made->event = backend.create_event();
        return made;
      });
    }
    pool = found.get();
  }
  const auto [lent, index] = pool->take();
  lent->pool = pool;
  lent->index = index;
  return lent;
}

HandOver::HandOver(DeviceBackend& backend) : lent_(Lent::take(backend)) {}

HandOver::~HandOver() {
  if (lent_ != nullptr) Lent::give_back(lent_);
}

void* HandOver::stream() {
  if (lent_->stream == nullptr) lent_->stream = lent_->backend->create_stream();
  uses_stream_ = true;
  return lent_->stream->native_handle();
}

Status HandOver::after(void* stream) {
  Status status = lent_->backend->record_foreign(stream, *lent_->event);
  if (status.ok()) has_event_ = true;
  return status;
}

Buffer HandOver::wrap(void* data, std::size_t size_bytes) {
  if (uses_stream_ && !has_event_) {
    lent_->stream->record(*lent_->event);
    has_event_ = true;
  }
  Lent* const lent = std::exchange(lent_, nullptr);
  return Buffer::wrap(data, size_bytes, lent->backend->device(), &Lent::give_back, lent,
                      has_event_ ? lent->event.get() : nullptr);
}

namespace {

// Memory in other hands.
struct Kept {
  DeviceBackend* backend;
  Buffer memory;
  std::unique_ptr<Event> event;  // of the moment when it was dropped

  static void drop(void* self);
  static void free(void* self) { const std::unique_ptr<Kept> kept(static_cast<Kept*>(self)); }
};

// Where it is waited for that memory is free again; one stream of a device, never destroyed.
Stream& waiting_stream(DeviceBackend& backend) {
  static std::mutex mutex;
  static auto& streams = *new std::map<DeviceBackend*, std::unique_ptr<Stream>>;
  const std::lock_guard lock(mutex);
  auto& found = streams[&backend];
  if (found == nullptr) found = backend.create_stream();
  return *found;
}

void Kept::drop(void* self) {
  auto* const kept = static_cast<Kept*>(self);
  if (!kept->backend->record_foreign(default_stream(), *kept->event).ok() ||
      kept->event->is_ready()) {
    free(kept);
    return;
  }
  static std::mutex mutex;  // a stream has one user at a time
  const std::lock_guard lock(mutex);
  waiting_stream(*kept->backend).notify(*kept->event, &Kept::free, kept);
}

}  // namespace

Buffer keep_for_streams(DeviceBackend& backend, Buffer memory) {
  if (backend.device().kind != DeviceKind::kCuda || !memory) return memory;
  (void)waiting_stream(backend);  // fails here rather than when the memory is dropped
  void* const data = memory.data();
  const std::size_t size_bytes = memory.size_bytes();
  auto kept = std::make_unique<Kept>(Kept{&backend, std::move(memory), backend.create_event()});
  return Buffer::wrap(data, size_bytes, backend.device(), &Kept::drop, kept.release());
}

}  // namespace pyruntime
