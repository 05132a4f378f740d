// Memory of a device that passes between us and another owner, each of whom
// works on it in streams of their own.
//
// Taken in: what the owner's stream still has to do is waited for by an event,
// on the device. Given out: what the new user's streams still have to do when
// they drop it is waited for before it is used again.
//
// Threads: a HandOver has one user; keep_for_streams() from any.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "memory/buffer.h"
#include "memory/device.h"

namespace pyruntime {

// Takes in memory of another owner:
//
//   HandOver taken(backend);
//   taken.stream();        // has the owner make this stream wait for theirs (DLPack), or
//   taken.after(stream);   // waits for what theirs was given (__cuda_array_interface__)
//   Buffer buffer = taken.wrap(data, size);
//
// Streams and events are lent from a pool of the device's and go back with the buffer.
class HandOver {
 public:
  // `backend` lives as long as the process. Throws Error where the device has no more.
  explicit HandOver(DeviceBackend& backend);
  ~HandOver();
  HandOver(const HandOver&) = delete;
  HandOver& operator=(const HandOver&) = delete;

  // Ours, by its native handle: what it has been made to wait for is waited for.
  void* stream();

  // Waits for all work given so far to `stream`, of another owner. InvalidInput
  // where the device knows no such stream.
  Status after(void* stream);

  // The memory stays with its owner until the buffer is gone; nothing is called then.
  Buffer wrap(void* data, std::size_t size_bytes);

 private:
  struct Lent;
  Lent* lent_;
  bool uses_stream_ = false;
  bool has_event_ = false;
};

// A reference to `memory`, of `backend`, for a user with streams that are not
// ours. When the last copy of it is gone, the memory stays lent until the
// device has done what its default stream orders before that moment: work in
// the default stream, and in all streams that were not made non-blocking.
Buffer keep_for_streams(DeviceBackend& backend, Buffer memory);

}  // namespace pyruntime
