// Of a tensor, what a request's state machine touches: fields whose accesses
// must be ordered.
#pragma once

#include <cstddef>

namespace pyruntime {

struct Buffer {
  void reset() { is_held = 0; }
  bool is_sole() const { return true; }
  std::size_t size_bytes() const { return 0; }
  checking::Checked<int> is_held;
};

struct Tensor {
  checking::Checked<std::byte*> data;
  Buffer buffer;
};

}  // namespace pyruntime
