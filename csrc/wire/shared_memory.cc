#include "wire/shared_memory.h"

#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/text.h"

namespace pyruntime {
namespace {

// A piece of the system's shared memory. Pages are mapped whole.
struct Mapping {
  void* address = nullptr;
  std::size_t size_bytes = 0;
  static void free(void* self) {
    const std::unique_ptr<Mapping> mapping(static_cast<Mapping*>(self));
    munmap(mapping->address, mapping->size_bytes);
  }
};

struct DeviceMapping {
  DeviceBackend* backend;
  void* address;
  static void free(void* self) {
    const std::unique_ptr<DeviceMapping> mapping(static_cast<DeviceMapping*>(self));
    mapping->backend->close_shared(mapping->address);
  }
};

class File {
 public:
  explicit File(int number) : number_(number) {}
  ~File() {
    if (number_ >= 0) close(number_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int number() const { return number_; }

 private:
  const int number_;
};

std::string region_of(const std::string& name) { return "shared memory region " + quoted(name); }

[[noreturn]] void fail(const std::string& name, const std::string& why) {
  throw Error(ErrorCode::kInvalidInput, "failed to register " + region_of(name) + ": " + why);
}

std::string system_error() { return std::system_category().message(errno); }

}  // namespace

void SharedMemory::check_new(const std::string& name, uint64_t size_bytes) const {
  if (name.empty()) throw Error(ErrorCode::kInvalidInput, "name: expected one, got ''");
  if (has(name)) throw Error(ErrorCode::kInvalidInput, region_of(name) + " already in manager");
  if (size_bytes == 0) fail(name, "expected a byte_size of at least 1, got 0");
}

void SharedMemory::add_system(const std::string& name, const std::string& key, uint64_t offset,
                              uint64_t size_bytes) {
  check_new(name, size_bytes);
  const File file(shm_open(key.c_str(), O_RDWR | O_CLOEXEC, 0));
  if (file.number() < 0) {
    throw Error(ErrorCode::kInvalidInput, "Unable to open shared memory region: " + quoted(key) +
                                              ": shm_open: " + system_error());
  }
  struct stat facts{};
  if (fstat(file.number(), &facts) != 0) fail(name, "fstat: " + system_error());
  const auto there = static_cast<uint64_t>(facts.st_size);
  if (offset > there || size_bytes > there - offset) {
    fail(name, "expected offset and byte_size within the " + std::to_string(there) + " bytes of " +
                   quoted(key) + ", got " + std::to_string(offset) + " and " +
                   std::to_string(size_bytes));
  }
  const auto page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t in_page = offset % page_bytes;
  auto mapping = std::make_unique<Mapping>();
  mapping->size_bytes = in_page + size_bytes;
  mapping->address = mmap(nullptr, mapping->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                          file.number(), static_cast<off_t>(offset - in_page));
  if (mapping->address == MAP_FAILED) fail(name, "mmap: " + system_error());
  std::byte* const data = static_cast<std::byte*>(mapping->address) + in_page;
  Region region{name, key, offset, size_bytes, Device{}};
  region.memory = Buffer::wrap(data, size_bytes, Device{}, &Mapping::free, mapping.release());
  add(std::move(region));
}

void SharedMemory::add_device(const std::string& name, Device device,
                              std::span<const std::byte> handle, uint64_t size_bytes) {
  check_new(name, size_bytes);
  DeviceBackend& backend = open_device(device);
  auto mapping = std::make_unique<DeviceMapping>(DeviceMapping{&backend, nullptr});
  try {
    mapping->address = backend.open_shared(handle, size_bytes);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidInput) throw;
    fail(name, "invalid args: " + error.status().message());
  }
  Region region{name, {}, 0, size_bytes, device};
  void* const data = mapping->address;
  region.memory = Buffer::wrap(data, size_bytes, device, &DeviceMapping::free, mapping.release());
  add(std::move(region));
}

void SharedMemory::add(Region region) {
  const std::lock_guard lock(mutex_);
  const std::string name = region.name;
  if (!regions_.emplace(name, std::move(region)).second) {
    throw Error(ErrorCode::kInvalidInput, region_of(name) + " already in manager");
  }
}

bool SharedMemory::has(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return regions_.contains(name);
}

std::vector<SharedMemory::Region> SharedMemory::regions() const {
  const std::lock_guard lock(mutex_);
  std::vector<Region> all;
  all.reserve(regions_.size());
  for (const auto& [name, region] : regions_) all.push_back(region);
  return all;
}

void SharedMemory::remove(const std::string& name, bool is_of_system) {
  std::vector<Region> removed;  // unmapped without the lock
  const std::lock_guard lock(mutex_);
  for (auto at = regions_.begin(); at != regions_.end();) {
    const bool is_meant =
        at->second.is_of_system() == is_of_system && (name.empty() || at->first == name);
    if (is_meant) removed.push_back(std::move(at->second));
    at = is_meant ? regions_.erase(at) : std::next(at);
  }
}

Status SharedMemory::find(std::string_view name, uint64_t offset, uint64_t size_bytes,
                          Tensor* tensor) const {
  const std::lock_guard lock(mutex_);
  const auto found = regions_.find(name);
  if (found == regions_.end()) {
    return {ErrorCode::kModelNotFound, "Unable to find shared memory region: " + quoted(name)};
  }
  const Region& region = found->second;
  if (offset > region.size_bytes || size_bytes > region.size_bytes - offset) {
    return {ErrorCode::kInvalidInput,
            "Invalid offset + byte size for shared memory region: " + quoted(name) +
                ": expected them within its " + std::to_string(region.size_bytes) + " bytes, got " +
                std::to_string(offset) + " and " + std::to_string(size_bytes)};
  }
  tensor->data = region.memory.data() + offset;
  tensor->buffer = region.memory;
  tensor->device = region.device;
  return {};
}

}  // namespace pyruntime
