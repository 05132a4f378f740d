#include "stream.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace fake_cuda {
namespace {

void sleep_unlocked(std::unique_lock<std::mutex>& lock, int64_t delay_us) {
  if (delay_us <= 0) return;
  lock.unlock();
  std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
  lock.lock();
}

thread_local bool in_callback = false;

// Counts down to the one that fails.
bool is_due(int64_t& after) {
  if (after < 0) return false;
  return after-- == 0;
}

}  // namespace

Stream::Stream(int on_device)
    : device(on_device), id_(++State::instance().last_id), thread_([this] { run(); }) {}

Stream::~Stream() {
  {
    const std::lock_guard lock(State::instance().mutex);
    is_closing_ = true;
  }
  State::instance().changed.notify_all();
  thread_.join();
}

void Stream::give_locked(Work work) {
  work_.push_back(std::move(work));
  State::instance().changed.notify_all();
}

void Stream::run() {
  State& state = State::instance();
  std::unique_lock lock(state.mutex);
  for (;;) {
    state.changed.wait(lock, [this] { return is_closing_ || !work_.empty(); });
    if (work_.empty()) break;
    const Work work = std::move(work_.front());
    work_.pop_front();
    work(lock);
  }
  deliver_locked();
}

void Stream::begin_next_locked() {
  clock_.join(State::instance().host);
  clock_.see(id_, ++count_);
}

void Stream::allocate_locked(uintptr_t begin, std::size_t size_bytes) {
  begin_next_locked();
  note_locked(begin, size_bytes, true);
}

void Stream::note_locked(uintptr_t begin, std::size_t size_bytes, bool writes) {
  State& state = State::instance();
  const Access access{begin, begin + size_bytes, writes, id_, count_};
  if (!state.accesses.note(access, clock_, state.host)) {
    state.misuse_locked("work given to a stream without waiting for another's on the same memory");
  }
}

bool Stream::begin_free_locked(uintptr_t begin, std::size_t size_bytes) {
  begin_next_locked();
  return State::instance().accesses.is_over(begin, begin + size_bytes, clock_);
}

int Stream::copy(std::unique_lock<std::mutex>& lock, Copy copy) {
  State& state = State::instance();
  const auto is_sound = [&](uintptr_t address, bool is_host) {
    const bool is_device = state.bytes_at_locked(address, copy.size_bytes) != nullptr;
    return is_host ? !is_device && address != 0 : is_device;
  };
  if (!is_sound(copy.source, copy.is_from_host) || !is_sound(copy.destination, copy.is_to_host)) {
    state.misuse_locked("copy of memory that is not allocated or on the wrong side");
    return kInvalidValue;
  }
  if (is_due(on().faults.fail_after)) return kOperatingSystem;
  copy.is_stalled = is_due(on().faults.stall_after);
  copy.ends_context = is_due(on().faults.end_context_after);
  copy.stall_releases = on().stall_releases;
  copy.delay_us = state.draw_delay_us_locked(on());
  copy.id = ++state.last_id;
  begin_next_locked();
  const bool waits = copy.is_to_host && !state.is_pinned_locked(copy.destination, copy.size_bytes);
  if (copy.is_from_host && !state.is_pinned_locked(copy.source, copy.size_bytes)) {
    const auto* const from = reinterpret_cast<const std::byte*>(copy.source);
    copy.bytes.assign(from, from + copy.size_bytes);
  } else {
    note_locked(copy.source, copy.size_bytes, false);
  }
  note_locked(copy.destination, copy.size_bytes, true);
  // Work given before may still have to read what is there now.
  if (copy.is_to_host && !state.is_in_use_locked(copy.destination, copy.size_bytes)) {
    std::memset(reinterpret_cast<void*>(copy.destination), kPoison, copy.size_bytes);
  }
  state.begin_locked(copy);
  give_locked([this, copy = std::move(copy)](std::unique_lock<std::mutex>& held) mutable {
    run_copy(held, copy);
  });
  return waits ? synchronize(lock) : static_cast<int>(kSuccess);
}

void Stream::run_copy(std::unique_lock<std::mutex>& lock, Copy& copy) {
  State& state = State::instance();
  if (copy.is_from_host) deliver_locked();  // it may be the source
  if (on().ended == kSuccess) {
    if (!copy.is_to_host) {
      if (std::byte* const to = state.bytes_at_locked(copy.destination, copy.size_bytes)) {
        std::memset(to, kPoison, copy.size_bytes);
      }
    }
    sleep_unlocked(lock, copy.delay_us);
    if (copy.is_stalled) {
      state.changed.wait(lock, [&] { return on().stall_releases != copy.stall_releases; });
    }
  }
  if (copy.ends_context && on().ended == kSuccess) {
    on().ended = kIllegalAddress;
    state.changed.notify_all();
  }
  const std::byte* from = copy.is_from_host ? reinterpret_cast<const std::byte*>(copy.source)
                                            : state.bytes_at_locked(copy.source, copy.size_bytes);
  if (!copy.bytes.empty()) from = copy.bytes.data();
  if (on().ended != kSuccess || from == nullptr) {
    state.end_locked(copy);
  } else if (copy.is_to_host) {
    copy.bytes.assign(from, from + copy.size_bytes);
    arrived_.push_back(std::move(copy));
  } else {
    if (std::byte* const to = state.bytes_at_locked(copy.destination, copy.size_bytes)) {
      std::memcpy(to, from, copy.size_bytes);
    }
    state.end_locked(copy);
  }
}

void Stream::deliver_locked() {
  for (const Copy& copy : arrived_) {
    std::memcpy(reinterpret_cast<void*>(copy.destination), copy.bytes.data(), copy.bytes.size());
    State::instance().end_locked(copy);
  }
  arrived_.clear();
}

void Stream::record_locked(const std::shared_ptr<Moment>& moment) {
  begin_next_locked();
  moment->clock = clock_;
  give_locked([this, moment, number = ++moment->given](std::unique_lock<std::mutex>&) {
    deliver_locked();
    moment->fired = std::max(moment->fired, number);
    State::instance().changed.notify_all();
  });
}

void Stream::wait_locked(const std::shared_ptr<Moment>& moment) {
  clock_.join(moment->clock);
  give_locked([this, moment, number = moment->given](std::unique_lock<std::mutex>& lock) {
    State::instance().changed.wait(
        lock, [&] { return moment->fired >= number || on().ended != kSuccess; });
  });
}

void Stream::call_locked(std::function<void(int result)> function) {
  State& state = State::instance();
  begin_next_locked();
  give_locked([this, function = std::move(function), before = clock_,
               delay_us = state.draw_delay_us_locked(on())](std::unique_lock<std::mutex>& lock) {
    deliver_locked();
    sleep_unlocked(lock, delay_us);
    State::instance().host.join(before);
    const int result = on().ended;
    lock.unlock();
    in_callback = true;
    function(result);
    in_callback = false;
    lock.lock();
  });
}

bool is_in_callback() { return in_callback; }

int Stream::synchronize(std::unique_lock<std::mutex>& lock) {
  const auto moment = std::make_shared<Moment>();
  record_locked(moment);
  return wait_for(lock, device, moment);
}

int wait_for(std::unique_lock<std::mutex>& lock, int device,
             std::shared_ptr<Moment>
                 moment) {  // NOLINT(performance-unnecessary-value-param): the event may die
  State& state = State::instance();
  const Device& on = state.devices.at(static_cast<std::size_t>(device));
  const uint64_t number = moment->given;
  const VectorClock before = moment->clock;
  state.changed.wait(lock, [&] { return moment->fired >= number || on.ended != kSuccess; });
  if (on.ended != kSuccess) return on.ended;
  state.host.join(before);
  return kSuccess;
}

}  // namespace fake_cuda
