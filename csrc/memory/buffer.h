// A counted reference to a piece of memory, whoever owns that.
//
// Threads: a Buffer has one user at a time; its copies may live on others.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "memory/device.h"

namespace pyruntime {

// The shared head of a piece of memory. It may belong to a pool or stand for
// memory of another owner (a NumPy array, an engine's output).
struct BufferBlock {
  std::byte* data = nullptr;
  std::size_t size_bytes = 0;  // usable, at least what was asked for
  Device device;
  std::atomic<uint32_t> references{0};
  void (*release)(BufferBlock* block) noexcept = nullptr;  // called by the last reference
  void* owner = nullptr;                                   // for `release`
  uint64_t tag = 0;                                        // for `release`
  // Memory of another owner may be read once this is ready; null: at once.
  Event* ready = nullptr;
};

// A counted reference to a block; the last one gives it back. May be null.
class Buffer {
 public:
  Buffer() = default;
  // Takes over one reference.
  static Buffer adopt(BufferBlock* block) {
    Buffer buffer;
    buffer.block_ = block;
    return buffer;
  }
  // Memory of another owner: release(context), unless null, is called once,
  // when the last reference is gone, on whichever thread that is. The heads of
  // wrapped memory are reused: no malloc in the steady state.
  // ready: recorded when all is given that still writes to it; lives as long as it.
  static Buffer wrap(void* data, std::size_t size_bytes, Device device,
                     void (*release)(void* context), void* context, Event* ready = nullptr);

  Buffer(const Buffer& other) : block_(other.block_) {
    if (block_ != nullptr) block_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Buffer(Buffer&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Buffer& operator=(Buffer other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~Buffer() { reset(); }

  void reset() noexcept {
    BufferBlock* block = std::exchange(block_, nullptr);
    if (block == nullptr) return;
    // Who holds the only reference needs no read-modify-write to drop it.
    // acquire and acq_rel: every use before a release is seen by the last one.
    if (block->references.load(std::memory_order_acquire) == 1 ||
        block->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      block->release(block);
    }
  }

  // Gives up the reference without dropping it; adopt() takes it back.
  BufferBlock* detach() { return std::exchange(block_, nullptr); }

  explicit operator bool() const { return block_ != nullptr; }
  std::byte* data() const { return block_ == nullptr ? nullptr : block_->data; }
  std::size_t size_bytes() const { return block_ == nullptr ? 0 : block_->size_bytes; }
  Device device() const { return block_ == nullptr ? Device{} : block_->device; }
  // What a stream must wait for before it reads; null: nothing.
  Event* ready() const { return block_ == nullptr ? nullptr : block_->ready; }
  // Whether no other Buffer shares the memory: it may be written anew.
  bool is_sole() const {
    // acquire: every use before another reference's end is seen
    return block_ != nullptr && block_->references.load(std::memory_order_acquire) == 1;
  }
  uint32_t use_count() const {
    return block_ == nullptr ? 0 : block_->references.load(std::memory_order_relaxed);
  }

 private:
  BufferBlock* block_ = nullptr;
};

}  // namespace pyruntime
