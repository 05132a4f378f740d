// Whole pages from the system.
//
// Threads: all calls from any.
#pragma once

#include <cstddef>

namespace pyruntime {

inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

// Zeroed, readable and writable; 2 MiB and more are aligned to 2 MiB, so that
// huge pages can back them. Returns nullptr, with errno set, when there is none.
// No page is shared with another owner, so that locking one locks no neighbour.
void* map_pages(std::size_t size_bytes);
void unmap_pages(void* address, std::size_t size_bytes) noexcept;

// What the two above round `size_bytes` up to.
std::size_t page_rounded(std::size_t size_bytes);

}  // namespace pyruntime
