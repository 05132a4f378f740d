// Memory that one call cuts pieces from and gives back all at once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "base/cache_line.h"

namespace pyruntime {

// Threads: one user at a time.
class Scratch {
 public:
  // What reset() keeps, at most: a great many calls may be pooled.
  static constexpr std::size_t kKeptBytes = 64 << 10;

  // Aligned to a cache line, valid until reset().
  std::byte* allocate(std::size_t size_bytes) {
    const std::size_t rounded = (size_bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    if (blocks_.empty() || blocks_.back().size_bytes - used_bytes_ < rounded) {
      const std::size_t size = std::max(rounded, kFirstBytes);
      blocks_.push_back({Memory(new (std::align_val_t(kCacheLine)) std::byte[size]), size});
      used_bytes_ = 0;
    }
    std::byte* const piece = blocks_.back().memory.get() + used_bytes_;
    used_bytes_ += rounded;
    return piece;
  }

  // Keeps one block, the last and likely the largest, where it is not too big.
  void reset() {
    used_bytes_ = 0;
    if (blocks_.empty()) return;
    if (blocks_.size() > 1) std::swap(blocks_.front(), blocks_.back());
    blocks_.resize(blocks_.front().size_bytes <= kKeptBytes ? 1 : 0);
  }

 private:
  static constexpr std::size_t kFirstBytes = 4096;

  struct Free {
    void operator()(std::byte* memory) const {
      ::operator delete[](memory, std::align_val_t(kCacheLine));
    }
  };
  using Memory = std::unique_ptr<std::byte[], Free>;
  struct Block {
    Memory memory;
    std::size_t size_bytes = 0;
  };

  std::vector<Block> blocks_;
  std::size_t used_bytes_ = 0;  // of the last block
};

}  // namespace pyruntime
