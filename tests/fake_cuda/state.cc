#include "state.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace fake_cuda {
namespace {

constexpr std::size_t kAddressBytes = std::size_t{16} << 30U;  // reserved, never touched
constexpr std::size_t kMemoryBytes = std::size_t{1} << 30U;    // of a device
constexpr std::size_t kAlignment = 512;                        // as the driver's
constexpr std::size_t kPageBytes = 4096;

}  // namespace

DeviceBytes::DeviceBytes(std::size_t size_bytes)
    : data_(static_cast<std::byte*>(std::malloc(std::max<std::size_t>(size_bytes, 1)))),
      size_bytes_(size_bytes) {
  if (data_ != nullptr) std::memset(data_, kPoison, size_bytes);
}

DeviceBytes::DeviceBytes(int process, int file, std::size_t size_bytes) : size_bytes_(size_bytes) {
  const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(file);
  file_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file_ < 0) return;
  void* const mapped = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (mapped != MAP_FAILED) data_ = static_cast<std::byte*>(mapped);
}

DeviceBytes::~DeviceBytes() {
  if (file_ < 0) {
    std::free(data_);
    return;
  }
  if (data_ != nullptr) munmap(data_, size_bytes_);
  close(file_);
}

DeviceBytes& DeviceBytes::operator=(DeviceBytes&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(file_, other.file_);
  return *this;
}

int DeviceBytes::share() {
  if (file_ >= 0) return file_;
  const int file = memfd_create("fake_cuda", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, static_cast<off_t>(size_bytes_)) != 0) return -1;
  DeviceBytes shared(getpid(), file, size_bytes_);
  if (shared.data_ == nullptr) return -1;
  std::memcpy(shared.data_, data_, size_bytes_);
  close(file);  // `shared` has opened it anew
  *this = std::move(shared);
  return file_;
}

State::State() {
  void* const range =
      mmap(nullptr, kAddressBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) std::abort();
  range_ = reinterpret_cast<uintptr_t>(range);
  next_ = range_;
}

State& State::instance() {
  static auto& state = *new State;  // as long as the process, as the driver
  return state;
}

uintptr_t State::allocate_locked(int device, std::size_t size_bytes) {
  Device& on = devices.at(static_cast<std::size_t>(device));
  const std::size_t limit =
      on.faults.memory_bytes < 0 ? kMemoryBytes : static_cast<std::size_t>(on.faults.memory_bytes);
  if (on.used_bytes > limit || size_bytes > limit - on.used_bytes) return 0;
  const uintptr_t address = place_locked(device, size_bytes, DeviceBytes(size_bytes), false);
  if (address != 0) on.used_bytes += size_bytes;
  return address;
}

uintptr_t State::map_shared_locked(int device, int process, int file, std::size_t size_bytes) {
  return place_locked(device, size_bytes, DeviceBytes(process, file, size_bytes), true);
}

uintptr_t State::place_locked(int device, std::size_t size_bytes, DeviceBytes bytes,
                              bool is_foreign) {
  if (bytes.data() == nullptr) return 0;
  // A gap behind each makes work that runs over its end fail.
  const std::size_t room_bytes = (size_bytes / kAlignment + 2) * kAlignment;
  if (next_ + room_bytes > range_ + kAddressBytes) next_ = range_;
  for (auto after = allocations_.lower_bound(next_);
       after != allocations_.end() && after->first < next_ + room_bytes;
       after = allocations_.lower_bound(next_)) {
    next_ = after->first + after->second.room_bytes;
    if (next_ + room_bytes > range_ + kAddressBytes) return 0;
  }
  const uintptr_t address = next_;
  allocations_.emplace(address,
                       Allocation{device, size_bytes, room_bytes, std::move(bytes), is_foreign});
  next_ += room_bytes;
  return address;
}

bool State::find_locked(uintptr_t address, uintptr_t* begin, std::size_t* size_bytes,
                        int* device) const {
  auto found = allocations_.upper_bound(address);
  if (found == allocations_.begin()) return false;
  --found;
  const Allocation& allocation = found->second;
  if (address - found->first >= allocation.size_bytes) return false;
  *begin = found->first;
  *size_bytes = allocation.size_bytes;
  *device = allocation.device;
  return true;
}

int State::share_locked(uintptr_t address) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end() || found->second.is_foreign) return -1;
  return found->second.bytes.share();
}

bool State::free_locked(uintptr_t address) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end()) {
    misuse_locked("device memory freed twice, or never allocated");
    return false;
  }
  const Allocation& allocation = found->second;
  if (!allocation.is_foreign) {
    devices.at(static_cast<std::size_t>(allocation.device)).used_bytes -= allocation.size_bytes;
  }
  accesses.forget(address, address + allocation.size_bytes);
  allocations_.erase(found);
  return true;
}

void* State::allocate_host_locked(std::size_t size_bytes) {
  if (size_bytes > kAddressBytes) return nullptr;
  const std::size_t mapped = (size_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  void* const address =
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  host_allocations_[reinterpret_cast<uintptr_t>(address)] = mapped;
  host_bytes += mapped;
  return address;
}

bool State::free_host(std::unique_lock<std::mutex>& lock, void* address) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const auto found = host_allocations_.find(begin);
  if (found == host_allocations_.end()) {
    misuse_locked("host memory freed twice, or never allocated");
    return false;
  }
  const std::size_t mapped = found->second;
  if (!accesses.is_over(begin, begin + mapped, host)) {
    misuse_locked("host memory freed before the host has waited for work on it");
  }
  changed.wait(lock, [&] { return !is_in_use_locked(begin, mapped); });
  accesses.forget(begin, begin + mapped);
  host_allocations_.erase(begin);
  host_bytes -= mapped;
  munmap(address, mapped);
  return true;
}

std::byte* State::bytes_at_locked(uintptr_t address, std::size_t size_bytes) {
  auto found = allocations_.upper_bound(address);
  if (found == allocations_.begin()) return nullptr;
  --found;
  const std::size_t offset = address - found->first;
  const Allocation& allocation = found->second;
  if (offset > allocation.size_bytes || size_bytes > allocation.size_bytes - offset) return nullptr;
  return allocation.bytes.data() + offset;
}

std::size_t State::size_of_locked(uintptr_t address) const {
  const auto found = allocations_.find(address);
  return found == allocations_.end() ? 0 : found->second.size_bytes;
}

bool State::is_pinned_locked(uintptr_t address, std::size_t size_bytes) const {
  auto found = host_allocations_.upper_bound(address);
  if (found == host_allocations_.begin()) return false;
  --found;
  return address + size_bytes <= found->first + found->second;
}

void State::begin_locked(const Copy& copy) {
  in_use_.push_back({copy.id, copy.source, copy.source + copy.size_bytes});
  in_use_.push_back({copy.id, copy.destination, copy.destination + copy.size_bytes});
}

void State::end_locked(const Copy& copy) {
  std::erase_if(in_use_, [&](const Range& range) { return range.copy_id == copy.id; });
  changed.notify_all();
}

bool State::is_in_use_locked(uintptr_t address, std::size_t size_bytes) const {
  return std::ranges::any_of(in_use_, [&](const Range& range) {
    return address < range.end && range.begin < address + size_bytes;
  });
}

int64_t State::draw_delay_us_locked(const Device& device) {
  const Faults& faults = device.faults;
  if (faults.delay_jitter_us <= 0) return faults.delay_us;
  return faults.delay_us +
         std::uniform_int_distribution<int64_t>(0, faults.delay_jitter_us)(random_);
}

void State::misuse_locked(const std::string& what) {
  ++misuses;
  last_misuse = what;
}

int State::take_failure_locked(const std::string& name) {
  const auto found = failures.find(name);
  if (found == failures.end()) return kSuccess;
  const int result = found->second;
  failures.erase(found);
  return result;
}

}  // namespace fake_cuda
