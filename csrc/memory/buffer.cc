#include "memory/buffer.h"

#include <memory>

#include "base/slab.h"

namespace pyruntime {
namespace {

struct WrappedBlock : BufferBlock {
  void (*release_owner)(void* context) = nullptr;
};

Slab<WrappedBlock>& wrapped_blocks() {
  // Never destroyed: buffers may outlive main().
  static auto& blocks = *new Slab<WrappedBlock>([] { return std::make_unique<WrappedBlock>(); });
  return blocks;
}

void release_wrapped(BufferBlock* block) noexcept {
  const auto release_owner = static_cast<WrappedBlock*>(block)->release_owner;
  void* const context = block->owner;
  wrapped_blocks().give(static_cast<uint32_t>(block->tag));
  if (release_owner != nullptr) release_owner(context);
}

}  // namespace

Buffer Buffer::wrap(void* data, std::size_t size_bytes, Device device,
                    void (*release)(void* context), void* context, Event* ready) {
  const auto [block, index] = wrapped_blocks().take();
  block->data = static_cast<std::byte*>(data);
  block->size_bytes = size_bytes;
  block->device = device;
  block->release = release_wrapped;
  block->owner = context;
  block->tag = index;
  block->ready = ready;
  block->release_owner = release;
  // Only the thread that hands the buffer on publishes this.
  block->references.store(1, std::memory_order_relaxed);
  return adopt(block);
}

}  // namespace pyruntime
