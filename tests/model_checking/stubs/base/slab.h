// One object, which must be lent out before it is given back, and once only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace pyruntime {

template <typename T>
class Slab {
 public:
  explicit Slab(std::function<std::unique_ptr<T>()> make) : object_(make()) {}

  struct Lent {
    T* object;
    uint32_t index;
  };
  Lent take() {
    RL_ASSERT(is_lent_.get() == 0);
    is_lent_ = 1;
    return {object_.get(), 0};
  }
  void give(uint32_t) {
    RL_ASSERT(is_lent_.get() == 1);
    is_lent_ = 0;
  }
  bool has_all() const { return is_lent_.get() == 0; }
  uint32_t size() const { return 1; }

 private:
  const std::unique_ptr<T> object_;
  checking::Checked<int> is_lent_;
};

}  // namespace pyruntime
