// The requests of one model version, made once and used again and again.
#pragma once

#include "base/slab.h"
#include "schedule/request.h"

namespace pyruntime {

// Threads: all calls from any. Must outlive its requests.
class RequestPool {
 public:
  // Of the memory that a request's output may keep while the request is not in use.
  static constexpr std::size_t kKeptBytes = 1024;

  // While it lives, one request that this thread gives back stays at hand: a
  // callback that submits another takes it without a look at what all share.
  class Spare {
   public:
    explicit Spare(RequestPool& pool);
    ~Spare();
    Spare(const Spare&) = delete;
    Spare& operator=(const Spare&) = delete;

   private:
    friend class RequestPool;
    RequestPool& pool_;
    Spare* const outer_;
    Request* request_ = nullptr;
  };

  RequestPool(std::size_t input_count, std::size_t output_count);

  RequestRef take();
  // How many requests exist, in use or not.
  uint32_t size() const { return slab_.size(); }

 private:
  friend class Request;
  void give(Request& request) noexcept;

  Slab<Request> slab_;
};

}  // namespace pyruntime
