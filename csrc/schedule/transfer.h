// The streams of an instance, and a batch's way over them: to the device, through the run, back to
// the host.
//
// On one stream, or with copies on streams of their own, so that one batch is copied while another
// runs; events then say what waits for what.
//
// Threads: the owner of the instance.
#pragma once

#include <cstddef>
#include <memory>

#include "memory/device.h"
#include "memory/stream.h"

namespace pyruntime {

struct InstanceStreams {
  // own: of the session, where it runs on no other; must outlive this. May be null.
  explicit InstanceStreams(DeviceBackend& backend, Stream* own = nullptr);
  // Waits until all that was given to them is done.
  void close();

  std::unique_ptr<Stream> made;  // null where the session has its own
  Stream* compute;
  // For batches that are copied beside others' runs; null where the host's memory is the device's.
  std::unique_ptr<Stream> upload;
  std::unique_ptr<Stream> download;
};

class Transfer {
 public:
  Transfer(DeviceBackend& backend, InstanceStreams& streams);

  // Of the next batch. beside: copied on streams of its own.
  void begin(bool beside) {
    is_beside_ = beside;
    is_computed_ = false;
  }
  // Before the run is given to compute().
  void to_device(void* destination, const void* source, std::size_t size_bytes);
  Stream& compute() { return *streams_.compute; }
  // After it.
  void to_host(void* destination, const void* source, std::size_t size_bytes);
  // Behind all of the batch, whatever was given: its event fires.
  void end();

  // Fires when the device has completed the batch, and carries what failed.
  Event& done() { return *done_; }
  const Event& done() const { return *done_; }
  // The stream on which done() was recorded.
  Stream& last() { return is_beside_ ? *streams_.download : *streams_.compute; }
  bool is_beside() const { return is_beside_; }

 private:
  void wait_for_run();

  InstanceStreams& streams_;
  const std::unique_ptr<Event> done_;
  // Null where nothing is copied beside runs.
  std::unique_ptr<Event> uploaded_;
  std::unique_ptr<Event> computed_;

  bool is_beside_ = false;
  bool is_computed_ = false;  // downloads come behind the run
};

}  // namespace pyruntime
