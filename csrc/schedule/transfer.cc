#include "schedule/transfer.h"

namespace pyruntime {

InstanceStreams::InstanceStreams(DeviceBackend& backend, Stream* own)
    : made(own == nullptr ? backend.create_stream() : nullptr),
      compute(own == nullptr ? made.get() : own) {
  if (backend.is_host_accessible()) return;
  upload = backend.create_stream();
  download = backend.create_stream();
}

void InstanceStreams::close() {
  upload.reset();
  if (made == nullptr) (void)compute->synchronize();
  made.reset();
  download.reset();
}

Transfer::Transfer(DeviceBackend& backend, InstanceStreams& streams)
    : streams_(streams), done_(backend.create_event()) {
  if (backend.is_host_accessible()) return;
  uploaded_ = backend.create_event();
  computed_ = backend.create_event();
}

void Transfer::to_device(void* destination, const void* source, std::size_t size_bytes) {
  if (!is_beside_) {
    compute().copy(destination, source, size_bytes, CopyKind::kHostToDevice);
    return;
  }
  streams_.upload->copy(destination, source, size_bytes, CopyKind::kHostToDevice);
  streams_.upload->record(*uploaded_);
  compute().wait(*uploaded_);
}

void Transfer::wait_for_run() {
  if (is_computed_) return;
  compute().record(*computed_);
  streams_.download->wait(*computed_);
  is_computed_ = true;
}

void Transfer::to_host(void* destination, const void* source, std::size_t size_bytes) {
  if (is_beside_) wait_for_run();
  last().copy(destination, source, size_bytes, CopyKind::kDeviceToHost);
}

void Transfer::end() {
  if (is_beside_) wait_for_run();
  last().record(*done_);
}

}  // namespace pyruntime
