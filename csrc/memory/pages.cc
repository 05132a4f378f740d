#include "memory/pages.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>

#include <sys/mman.h>
#include <unistd.h>

namespace pyruntime {
namespace {

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

void unmap(std::byte* address, std::size_t size_bytes) noexcept {
  if (size_bytes != 0 && munmap(address, size_bytes) != 0) {
    std::fprintf(stderr, "pyruntime: munmap of %zu bytes: %s\n", size_bytes, std::strerror(errno));
  }
}

}  // namespace

std::size_t page_rounded(std::size_t size_bytes) {
  const std::size_t page = page_bytes();
  return size_bytes == 0 ? page : (size_bytes + page - 1) / page * page;
}

void* map_pages(std::size_t size_bytes) {
  if (size_bytes > std::numeric_limits<std::size_t>::max() / 4) {
    errno = ENOMEM;
    return nullptr;
  }
  const std::size_t wanted = page_rounded(size_bytes);
  const std::size_t slack = wanted >= kHugePageBytes ? kHugePageBytes - page_bytes() : 0;
  void* mapped =
      mmap(nullptr, wanted + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (slack == 0) return mapped;
  auto* const first = static_cast<std::byte*>(mapped);
  const std::size_t misaligned = reinterpret_cast<uintptr_t>(first) % kHugePageBytes;
  const std::size_t before = misaligned == 0 ? 0 : kHugePageBytes - misaligned;
  unmap(first, before);
  unmap(first + before + wanted, slack - before);
  return first + before;
}

void unmap_pages(void* address, std::size_t size_bytes) noexcept {
  unmap(static_cast<std::byte*>(address), page_rounded(size_bytes));
}

}  // namespace pyruntime
