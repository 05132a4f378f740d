// Sizes of blocks that a pool keeps: multiples of 64 bytes, four to each power
// of two from 256 bytes on, so that at most a fifth of a larger block is unused.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace pyruntime {

struct SizeClass {
  static constexpr std::size_t kUnitBytes = 64;
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 46;
  static constexpr unsigned kCount = 39 * 4;

  // The smallest class that holds `size_bytes`, at most kMaxBytes.
  static constexpr unsigned of(std::size_t size_bytes) {
    // The last unit touched; its three leading bits and their place name the class.
    const std::size_t last = size_bytes == 0 ? 0 : (size_bytes - 1) / kUnitBytes;
    const unsigned width = static_cast<unsigned>(std::bit_width(last));
    const unsigned shift = width < 3 ? 0 : width - 3;
    return shift * 4 + static_cast<unsigned>(last >> shift);
  }

  static constexpr std::size_t size_bytes(unsigned size_class) {
    if (size_class < 4) return (size_class + 1) * kUnitBytes;
    return (std::size_t{5} + size_class % 4) << (size_class / 4 - 1) << 6;
  }
};

static_assert(SizeClass::kUnitBytes == 1 << 6);
static_assert(SizeClass::size_bytes(SizeClass::of(SizeClass::kMaxBytes)) == SizeClass::kMaxBytes);
static_assert(SizeClass::of(SizeClass::kMaxBytes) == SizeClass::kCount - 1);

}  // namespace pyruntime
