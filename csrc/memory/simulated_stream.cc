#include "memory/simulated_stream.h"

#include <utility>

namespace pyruntime {

uint64_t SimulatedMoment::give() {
  const std::lock_guard lock(mutex_);
  return ++given_;
}

uint64_t SimulatedMoment::given() const {
  const std::lock_guard lock(mutex_);
  return given_;
}

void SimulatedMoment::fire(uint64_t number, const Status& status) {
  std::vector<Notice> due;
  {
    const std::lock_guard lock(mutex_);
    if (number <= fired_) return;  // recorded anew on a faster stream
    fired_ = number;
    status_ = status;
    fired_changed_.notify_all();
    std::erase_if(notices_, [&](const Notice& notice) {
      if (notice.number > number) return false;
      due.push_back(notice);
      return true;
    });
  }
  for (const Notice& notice : due) notice.function(notice.context);
}

void SimulatedMoment::notify(void (*function)(void* context), void* context) {
  {
    const std::lock_guard lock(mutex_);
    if (fired_ != given_) {
      notices_.push_back({given_, function, context});
      return;
    }
  }
  function(context);
}

bool SimulatedMoment::is_ready() const {
  const std::lock_guard lock(mutex_);
  return fired_ == given_;
}

Status SimulatedMoment::wait(uint64_t number) const {
  std::unique_lock lock(mutex_);
  fired_changed_.wait(lock, [&] { return fired_ >= number; });
  return status_;
}

Status SimulatedMoment::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

SimulatedStream::SimulatedStream(SimulatedMemory& memory)
    : memory_(memory), thread_([this] { run(); }) {}

SimulatedStream::~SimulatedStream() {
  {
    const std::lock_guard lock(mutex_);
    is_closing_ = true;
  }
  work_changed_.notify_one();
  thread_.join();
}

void SimulatedStream::give(Work work) {
  {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
  }
  work_changed_.notify_one();
}

void SimulatedStream::run() {
  for (;;) {
    Work work;
    {
      std::unique_lock lock(mutex_);
      work_changed_.wait(lock, [this] { return is_closing_ || !work_.empty(); });
      if (work_.empty()) break;
      work = std::move(work_.front());
      work_.pop_front();
    }
    work();
  }
  deliver_arrived();
}

void SimulatedStream::copy(void* destination, const void* source, std::size_t size_bytes,
                           CopyKind kind) {
  give([this, copy = memory_.begin(destination, source, size_bytes, kind)]() mutable {
    run_copy(copy);
  });
}

void SimulatedStream::run_copy(SimulatedCopy& copy) {
  if (copy.is_from_host()) deliver_arrived();  // it may be the source
  if (!status_.ok()) {                         // skipped
    copy.failure = status_;
    copy.delay = {};
  }
  status_ = memory_.run(copy);
  if (!status_.ok()) {
    memory_.abandon(copy);
  } else if (copy.is_to_host()) {
    arrived_.push_back(std::move(copy));
  } else {
    memory_.deliver(copy);
  }
}

void SimulatedStream::deliver_arrived() {
  for (const SimulatedCopy& copy : arrived_) memory_.deliver(copy);
  arrived_.clear();
}

void SimulatedStream::record(Event& event) {
  if (auto* const own = dynamic_cast<SimulatedEvent*>(&event)) {
    record(own->moment());
  } else {
    memory_.count_misuse();
  }
}

void SimulatedStream::record(const std::shared_ptr<SimulatedMoment>& moment) {
  give([this, moment, number = moment->give()] {
    deliver_arrived();
    moment->fire(number, std::exchange(status_, Status()));
  });
}

void SimulatedStream::wait(Event& event) {
  auto* const own = dynamic_cast<SimulatedEvent*>(&event);
  if (own == nullptr) {
    memory_.count_misuse();
    return;
  }
  give([this, moment = own->moment(), number = own->moment()->given()] {
    if (number == 0) return;
    Status before = moment->wait(number);
    if (status_.ok()) status_ = std::move(before);
  });
}

void SimulatedStream::call(void (*function)(void* context), void* context) {
  give([this, function, context, delay = memory_.draw_delay()] {
    deliver_arrived();
    if (delay.count() > 0) std::this_thread::sleep_for(delay);
    function(context);
  });
}

void SimulatedStream::notify(Event& event, void (*function)(void* context), void* context) {
  if (auto* const own = dynamic_cast<SimulatedEvent*>(&event)) {
    own->moment()->notify(function, context);
  } else {
    memory_.count_misuse();
    function(context);
  }
}

Status SimulatedStream::synchronize() {
  const auto moment = std::make_shared<SimulatedMoment>();
  record(moment);
  return moment->wait(moment->given());
}

}  // namespace pyruntime
