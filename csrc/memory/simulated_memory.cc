#include "memory/simulated_memory.h"

#include <cerrno>
#include <cstring>
#include <new>
#include <thread>
#include <utility>

#include <sys/mman.h>

#include "memory/pages.h"

namespace pyruntime {
namespace {

constexpr std::size_t kAddressBytes = std::size_t{16} << 30U;  // reserved, never touched
constexpr std::size_t kMemoryBytes = std::size_t{1} << 30U;
constexpr std::size_t kAlignment = 256;

uintptr_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

std::string copy_kind_name(CopyKind kind) {
  switch (kind) {
    case CopyKind::kHostToDevice:
      return "host to device";
    case CopyKind::kDeviceToHost:
      return "device to host";
    case CopyKind::kDeviceToDevice:
      return "device to device";
    case CopyKind::kHostToHost:
      return "host to host";
  }
  return "unknown";
}

}  // namespace

SimulatedMemory::SimulatedMemory(int16_t index)
    : name_("device 'simulated:" + std::to_string(index) + "'"),
      random_(static_cast<unsigned>(index) + 1) {
  // Lives as long as the process, as the device does.
  void* const range =
      mmap(nullptr, kAddressBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) {
    throw Error(ErrorCode::kUnavailable, name_ + ": mmap of " + std::to_string(kAddressBytes) +
                                             " bytes of addresses: " + std::strerror(errno));
  }
  range_ = static_cast<std::byte*>(range);
  first_address_ = number(range);
  next_address_ = first_address_;
}

void SimulatedMemory::set_faults(const SimulatedFaults& faults) {
  const std::lock_guard lock(mutex_);
  faults_ = faults;
  if (faults.stall_after >= 0) return;
  ++stall_releases_;
  stalls_released_.notify_all();
}

uintptr_t SimulatedMemory::find_room(std::size_t room_bytes) {
  for (uintptr_t at : {next_address_, first_address_}) {
    for (auto it = allocations_.lower_bound(at);; ++it) {
      const bool is_last = it == allocations_.end();
      const uintptr_t end = is_last ? first_address_ + kAddressBytes : it->first;
      if (end - at >= room_bytes) return at;
      if (is_last) break;
      at = it->first + it->second.room_bytes;
    }
  }
  return 0;
}

void* SimulatedMemory::allocate(std::size_t size_bytes) {
  const std::lock_guard lock(mutex_);
  const std::size_t limit =
      faults_.memory_bytes < 0 ? kMemoryBytes : static_cast<std::size_t>(faults_.memory_bytes);
  const auto none_left = [&] {
    return Error(ErrorCode::kOverloaded, name_ + ": no " + std::to_string(size_bytes) +
                                             " bytes left: " + std::to_string(used_bytes_) +
                                             " in use of " + std::to_string(limit));
  };
  if (used_bytes_ > limit || size_bytes > limit - used_bytes_) throw none_left();
  // A gap behind each makes work that runs over its end fail.
  const std::size_t room_bytes = (size_bytes / kAlignment + 2) * kAlignment;
  const uintptr_t address = find_room(room_bytes);
  std::unique_ptr<std::byte[]> bytes(new (std::nothrow) std::byte[size_bytes]);
  if (address == 0 || bytes == nullptr) throw none_left();
  if (size_bytes != 0) std::memset(bytes.get(), kPoison, size_bytes);
  allocations_.emplace(address, Allocation{size_bytes, room_bytes, std::move(bytes)});
  next_address_ = address + room_bytes;
  used_bytes_ += size_bytes;
  return range_ + (address - first_address_);
}

void SimulatedMemory::free(void* address, std::size_t size_bytes) noexcept {
  if (address == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto found = allocations_.find(number(address));
  if (found == allocations_.end() || found->second.size_bytes != size_bytes) {
    ++misuses_;
    return;
  }
  if (is_in_use(address, size_bytes)) ++misuses_;
  used_bytes_ -= size_bytes;
  allocations_.erase(found);
}

void* SimulatedMemory::allocate_host(std::size_t size_bytes) {
  void* const address = map_pages(size_bytes);
  if (address != nullptr) return address;
  throw Error(ErrorCode::kOverloaded, name_ + ": mmap of " + std::to_string(size_bytes) +
                                          " bytes of host memory: " + std::strerror(errno));
}

void SimulatedMemory::free_host(void* address, std::size_t size_bytes) noexcept {
  if (address == nullptr) return;
  {
    std::unique_lock lock(mutex_);
    if (is_in_use(address, size_bytes)) ++misuses_;
    in_use_changed_.wait(lock, [&] { return !is_in_use(address, size_bytes); });
  }
  unmap_pages(address, size_bytes);
}

SimulatedCopy SimulatedMemory::begin(void* destination, const void* source, std::size_t size_bytes,
                                     CopyKind kind) {
  const std::lock_guard lock(mutex_);
  SimulatedCopy copy;
  copy.id = ++last_copy_id_;
  copy.destination = destination;
  copy.source = source;
  copy.size_bytes = size_bytes;
  copy.kind = kind;
  copy.delay = draw_delay_locked();
  const std::string what =
      "copy of " + std::to_string(size_bytes) + " bytes, " + copy_kind_name(kind);
  const auto is_sound = [&](const void* address, bool is_host) {
    return is_host ? !is_device_address(address, size_bytes)
                   : bytes_at(address, size_bytes) != nullptr;
  };
  if (!is_sound(source, copy.is_from_host()) || !is_sound(destination, copy.is_to_host())) {
    ++misuses_;
    copy.failure = Status(ErrorCode::kEngineError,
                          name_ + ": " + what + ": memory not allocated or on the wrong side");
    return copy;
  }
  copy.is_sound = true;
  if (faults_.fail_after == 0) {
    copy.failure = Status(ErrorCode::kEngineError, name_ + ": " + what + ": injected failure");
  }
  if (faults_.fail_after >= 0) --faults_.fail_after;
  copy.is_stalled = faults_.stall_after == 0;
  copy.stall_releases = stall_releases_;
  if (faults_.stall_after >= 0) --faults_.stall_after;
  if (size_bytes == 0) return copy;

  // Work given before may still have to read what is there now.
  if (copy.is_to_host() && !is_in_use(destination, size_bytes)) {
    std::memset(destination, kPoison, size_bytes);
  }
  in_use_.push_back({copy.id, number(source), number(source) + size_bytes});
  in_use_.push_back({copy.id, number(destination), number(destination) + size_bytes});
  return copy;
}

Status SimulatedMemory::run(SimulatedCopy& copy) {
  const std::size_t size_bytes = copy.size_bytes;
  // Whether all is still allocated; `use` gets both addresses, where it may touch them.
  const auto with_bytes = [&](auto use) {
    const std::lock_guard lock(mutex_);
    const void* const source =
        copy.is_from_host() ? copy.source : bytes_at(copy.source, size_bytes);
    void* const destination =
        copy.is_to_host() ? copy.destination : bytes_at(copy.destination, size_bytes);
    const bool is_there = source != nullptr && destination != nullptr;
    if (is_there && size_bytes != 0) use(destination, source);
    return is_there || size_bytes == 0;
  };
  if (copy.is_sound) {
    with_bytes(
        [&](void* destination, const void*) { std::memset(destination, kPoison, size_bytes); });
  }
  if (copy.delay.count() > 0) std::this_thread::sleep_for(copy.delay);
  if (copy.is_stalled) wait_out_stall(copy);
  if (!copy.failure.ok()) return copy.failure;
  const bool is_done = with_bytes([&](void* destination, const void* source) {
    if (copy.is_to_host()) {
      copy.arrived.resize(size_bytes);
      destination = copy.arrived.data();
    }
    std::memcpy(destination, source, size_bytes);
  });
  if (is_done) return {};
  return {ErrorCode::kEngineError, name_ + ": copy of " + std::to_string(size_bytes) +
                                       " bytes: memory freed before the copy was done"};
}

void SimulatedMemory::wait_out_stall(const SimulatedCopy& copy) {
  std::unique_lock lock(mutex_);
  stalls_released_.wait(lock, [&] { return stall_releases_ != copy.stall_releases; });
}

void SimulatedMemory::deliver(const SimulatedCopy& copy) {
  if (!copy.arrived.empty()) {
    std::memcpy(copy.destination, copy.arrived.data(), copy.arrived.size());
  }
  abandon(copy);
}

void SimulatedMemory::abandon(const SimulatedCopy& copy) {
  const std::lock_guard lock(mutex_);
  std::erase_if(in_use_, [&](const Range& range) { return range.copy_id == copy.id; });
  in_use_changed_.notify_all();
}

std::chrono::microseconds SimulatedMemory::draw_delay() {
  const std::lock_guard lock(mutex_);
  return draw_delay_locked();
}

std::chrono::microseconds SimulatedMemory::draw_delay_locked() {
  if (faults_.delay_jitter.count() <= 0) return faults_.delay;
  std::uniform_int_distribution<int64_t> jitter(0, faults_.delay_jitter.count());
  return faults_.delay + std::chrono::microseconds(jitter(random_));
}

void SimulatedMemory::count_misuse() {
  const std::lock_guard lock(mutex_);
  ++misuses_;
}

uint64_t SimulatedMemory::misuse_count() const {
  const std::lock_guard lock(mutex_);
  return misuses_;
}

uint64_t SimulatedMemory::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_bytes_;
}

std::byte* SimulatedMemory::bytes_at(const void* address, std::size_t size_bytes) const {
  auto found = allocations_.upper_bound(number(address));
  if (found == allocations_.begin()) return nullptr;
  --found;
  const std::size_t offset = number(address) - found->first;
  const Allocation& allocation = found->second;
  if (offset > allocation.size_bytes || size_bytes > allocation.size_bytes - offset) return nullptr;
  return allocation.bytes.get() + offset;
}

bool SimulatedMemory::is_in_use(const void* address, std::size_t size_bytes) const {
  for (const Range& range : in_use_) {
    if (number(address) < range.end && range.begin < number(address) + size_bytes) return true;
  }
  return false;
}

bool SimulatedMemory::is_device_address(const void* address, std::size_t size_bytes) const {
  return number(address) < first_address_ + kAddressBytes &&
         first_address_ < number(address) + size_bytes;
}

}  // namespace pyruntime
