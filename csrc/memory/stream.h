// Work in order on a device, and the moments in it that one can wait for.
#pragma once

#include <cstddef>

#include "base/error.h"

namespace pyruntime {

enum class CopyKind : uint8_t { kHostToDevice, kDeviceToHost, kDeviceToDevice, kHostToHost };

// A moment in a stream. Reusable: recording it again forgets the last moment.
//
// Threads: is_ready(), wait() and status() from any; record by the stream's user.
class Event {
 public:
  virtual ~Event() = default;

  // Whether all work before the last record is done; true if never recorded.
  virtual bool is_ready() const = 0;

  // Blocks until is_ready(). Returns what failed in the stream before it.
  virtual Status wait() = 0;

  // What failed in the stream before this moment. Only after is_ready().
  virtual Status status() const = 0;
};

// Work on a device, done in the order in which it was given. Giving work does
// not wait for it; a stream of the CPU has done it when the call returns.
//
// A failure is sticky until the next record() or synchronize(): later work is
// skipped and the event carries the failure, or synchronize() returns it. After
// that the stream is usable again.
//
// Threads: one user at a time.
class Stream {
 public:
  // Waits until all work given so far is done.
  virtual ~Stream() = default;

  // Host memory must stay as it is until the copy is done. Page-locked host
  // memory copies without staging; other host memory may copy more slowly.
  virtual void copy(void* destination, const void* source, std::size_t size_bytes,
                    CopyKind kind) = 0;

  // Fires `event`, made by the same backend, when all work given so far is done.
  virtual void record(Event& event) = 0;

  // Work given from now on starts after `event`, of the same backend, as last
  // recorded before this call. A failure that it carries becomes this stream's.
  virtual void wait(Event& event) = 0;

  // Calls function(context) in stream order, on a thread of the backend's
  // choosing (the CPU's: this one, at once). It must not call into the device.
  // It is called even when earlier work failed.
  virtual void call(void (*function)(void* context), void* context) = 0;

  // Calls function(context) once `event`, of the same backend, is ready as last
  // recorded on this stream; on another thread, or on this one when it is ready
  // already. Nothing given to the stream waits for that. The event must live
  // until then.
  virtual void notify(Event& event, void (*function)(void* context), void* context) = 0;

  // Blocks until all work given so far is done.
  virtual Status synchronize() = 0;

  // The device's own stream (CUDA: cudaStream_t), nullptr where there is none.
  virtual void* native_handle() const { return nullptr; }
};

}  // namespace pyruntime
