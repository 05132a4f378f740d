#include "probe/grpc_load.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/prctl.h>

#include "probe/grpc_connection.h"
#include "probe/slice.h"

namespace pyruntime {
namespace {

int64_t thread_cpu_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// When one call was meant to be sent and when it was.
struct Times {
  TimePoint intended{};
  TimePoint sent{};
};

// One thread's share: its connections, and what it sends when. The subclasses say the latter.
//
// Threads: it is its thread's; `result` may be read when that has ended.
class Worker {
 public:
  Worker(const GrpcLoad::Options& options, std::span<const uint8_t> message, bool is_open,
         LoadResult* result)
      : options_(options), message_(message), is_open_(is_open), result_(result) {
    for (std::size_t i = 0; i < options.connections; ++i) connections_.push_back(connect());
  }
  virtual ~Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void run(TimePoint begin) {
    begin_ = begin;
    // Sleep as long as asked for, not 50 us more.
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    const int64_t cpu_before = thread_cpu_ns();
    last_answer_ = steady_now();
    while (step()) {
    }
    cpu_ns = thread_cpu_ns() - cpu_before;
  }

  // What it did, once run() has returned.
  int64_t cpu_ns = 0;
  int64_t requests = 0;
  std::size_t peak_in_flight = 0;
  TimePoint last_result{};
  std::string ended;
  std::array<int64_t, kErrorCodeCount> errors{};

 protected:
  // Sends what is due. Returns when it wants to be called next at the latest.
  virtual TimePoint send_due() = 0;
  virtual void answered(uint64_t tag) = 0;
  virtual bool is_done() const = 0;  // with nothing in flight
  virtual const Times& times_of(uint64_t tag) const = 0;

  // Whether a connection took it.
  bool send(uint64_t tag) {
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      GrpcConnection& connection = *connections_[next_++ % connections_.size()];
      if (connection.can_send()) {
        connection.send(tag);
        peak_in_flight = std::max(peak_in_flight, ++in_flight_);
        return true;
      }
    }
    return false;
  }

  TimePoint begin_{};

 private:
  std::unique_ptr<GrpcConnection> connect() const {
    return std::make_unique<GrpcConnection>(
        connect_to(options_.address, options_.connect_limit),
        GrpcConnection::Call{
            .authority = options_.address.starts_with("unix:") ? "localhost" : options_.address,
            .path = options_.path,
            .message = message_});
  }

  // False: all is done.
  bool step() {
    const TimePoint wake = send_due();
    if (in_flight_ == 0 && is_done()) return false;
    for (auto& connection : connections_) connection->flush();
    wait(wake);
    answers_.clear();
    for (auto& connection : connections_) {
      connection->pump(&answers_);
      if (connection->is_over() && !replace(&connection)) break;
    }
    if (!answers_.empty()) take_answers();
    if (!ended.empty()) return false;
    if (in_flight_ > 0 && steady_now() - last_answer_ > options_.patience) {
      ended = "no answer for " + std::to_string(options_.patience.count() / 1000) + " s";
      count(ErrorCode::kDeadlineExceeded, static_cast<int64_t>(in_flight_));
      return false;
    }
    return true;
  }

  void wait(TimePoint wake) {
    polled_.clear();
    for (const auto& connection : connections_) {
      const int events = POLLIN | (connection->wants_to_write() ? POLLOUT : 0);
      polled_.push_back(
          {.fd = connection->fd(), .events = static_cast<int16_t>(events), .revents = 0});
    }
    const Nanoseconds until = std::clamp<Nanoseconds>(wake - steady_now(), Nanoseconds(0),
                                                      std::chrono::milliseconds(100));
    const timespec limit{.tv_sec = 0, .tv_nsec = until.count()};
    ppoll(polled_.data(), polled_.size(), &limit, nullptr);
  }

  // False: there is no server any more.
  bool replace(std::unique_ptr<GrpcConnection>* connection) {
    const std::string why = (*connection)->why_lost();
    // A server that only drains lets what was in flight end; one that is lost may be back.
    const bool is_hopeless = !why.empty() && ++losses_ > kMostLosses;
    try {
      if (!is_hopeless) {
        *connection = connect();
        return true;
      }
      ended = "connections are lost again and again: " + why;
    } catch (const Error& error) {
      ended = "the connection was lost (" + (why.empty() ? "the server asked for no more" : why) +
              "), and a new one failed: " + error.what();
    }
    // What other connections carry is given up with it.
    for (auto& other : connections_) {
      if (other != *connection) count(ErrorCode::kUnavailable, int64_t(other->in_flight()));
    }
    return false;
  }

  void take_answers() {
    const TimePoint now = steady_now();
    last_answer_ = now;
    for (const GrpcConnection::Answer& answer : answers_) {
      --in_flight_;
      if (answer.status == 0) {
        const Times& times = times_of(answer.tag);
        result_->latency.add((now - times.intended).count());
        if (is_open_) result_->service.add((now - times.sent).count());
        ++requests;
        last_result = now;
        losses_ = 0;
      } else {
        count(code_of_grpc_status(answer.status), 1);
      }
      answered(answer.tag);
    }
  }

  void count(ErrorCode code, int64_t times) { errors[static_cast<std::size_t>(code)] += times; }

  static constexpr int kMostLosses = 100;  // without a result in between

  const GrpcLoad::Options& options_;
  const std::span<const uint8_t> message_;
  const bool is_open_;
  LoadResult* const result_;  // its histograms synchronise themselves

  std::vector<std::unique_ptr<GrpcConnection>> connections_;
  std::size_t next_ = 0;
  std::size_t in_flight_ = 0;
  int losses_ = 0;
  TimePoint last_answer_{};
  std::vector<pollfd> polled_;
  std::vector<GrpcConnection::Answer> answers_;
};

class ClosedWorker final : public Worker {
 public:
  ClosedWorker(const GrpcLoad::Options& options, std::span<const uint8_t> message,
               LoadResult* result, std::size_t in_flight, Nanoseconds time)
      : Worker(options, message, false, result), callers_(in_flight), time_(time) {
    for (std::size_t i = 0; i < in_flight; ++i) idle_.push_back(i);
  }

 private:
  TimePoint send_due() override {
    const TimePoint now = steady_now();
    if (now - begin_ >= time_) {
      idle_.clear();
      is_over_ = true;
    }
    while (!idle_.empty()) {
      const std::size_t caller = idle_.front();
      callers_[caller].intended = callers_[caller].sent = steady_now();
      if (!send(caller)) break;
      idle_.pop_front();
    }
    return begin_ + time_;
  }
  void answered(uint64_t tag) override { idle_.push_back(tag); }
  bool is_done() const override { return is_over_; }
  const Times& times_of(uint64_t tag) const override { return callers_[tag]; }

  std::vector<Times> callers_;
  std::deque<std::size_t> idle_;
  const Nanoseconds time_;
  bool is_over_ = false;
};

class OpenWorker final : public Worker {
 public:
  OpenWorker(const GrpcLoad::Options& options, std::span<const uint8_t> message, LoadResult* result,
             std::vector<Nanoseconds> times)
      : Worker(options, message, true, result),
        result_(result),
        times_(std::move(times)),
        calls_(times_.size()) {}

 private:
  TimePoint send_due() override {
    while (next_ < times_.size()) {
      const TimePoint due = begin_ + times_[next_];
      const TimePoint now = steady_now();
      if (now < due) return due;
      calls_[next_] = {due, now};
      // Where the server takes no more, the request waits: that it does is in its latency.
      if (!send(next_)) return now + std::chrono::milliseconds(100);
      result_->lag.add((now - due).count());
      ++next_;
    }
    return kNever;
  }
  void answered(uint64_t /*tag*/) override {}
  bool is_done() const override { return next_ == times_.size(); }
  const Times& times_of(uint64_t tag) const override { return calls_[tag]; }

  LoadResult* const result_;
  const std::vector<Nanoseconds> times_;
  std::vector<Times> calls_;
  std::size_t next_ = 0;
};

// Runs each on a thread of its own, and adds up what they did.
void run_all(std::vector<std::unique_ptr<Worker>>& workers, Nanoseconds length,
             LoadResult* result) {
  const TimePoint begin = steady_now() + std::chrono::milliseconds(1);
  std::vector<std::thread> threads;
  threads.reserve(workers.size());
  for (auto& worker : workers) threads.emplace_back([&] { worker->run(begin); });
  for (std::thread& thread : threads) thread.join();
  TimePoint last = begin;
  for (const auto& worker : workers) {
    result->requests += worker->requests;
    result->generator_cpu_ns += worker->cpu_ns;
    result->peak_in_flight += static_cast<int64_t>(worker->peak_in_flight);
    for (std::size_t i = 0; i < kErrorCodeCount; ++i) result->errors[i] += worker->errors[i];
    if (result->ended.empty()) result->ended = worker->ended;
    last = std::max(last, worker->last_result);
  }
  const Nanoseconds passed = result->ended.empty() ? length : steady_now() - begin;
  result->elapsed_ns = std::max<Nanoseconds>(std::min(passed, length), last - begin).count();
}

}  // namespace

ErrorCode code_of_grpc_status(int status) {
  switch (status) {
    case 0:
      return ErrorCode::kOk;
    case 1:
      return ErrorCode::kCancelled;
    case 3:
      return ErrorCode::kInvalidInput;
    case 4:
      return ErrorCode::kDeadlineExceeded;
    case 5:
      return ErrorCode::kModelNotFound;
    case 8:
      return ErrorCode::kOverloaded;
    case 12:
      return ErrorCode::kUnimplemented;
    case kGrpcUnavailable:
      return ErrorCode::kUnavailable;
    default:
      return ErrorCode::kEngineError;
  }
}

GrpcLoad::GrpcLoad(Options options, std::span<const uint8_t> message)
    : options_(std::move(options)), message_(grpc_framed(message)) {
  if (options_.threads == 0 || options_.connections == 0) {
    throw Error(ErrorCode::kInvalidInput, "threads and connections: expected at least 1, got 0");
  }
}

LoadResult GrpcLoad::closed(std::size_t in_flight, Nanoseconds time) {
  LoadResult result;
  const std::size_t threads = std::clamp<std::size_t>(options_.threads, 1, in_flight);
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::size_t i = 0; i < threads; ++i) {
    const std::size_t share = in_flight / threads + (i < in_flight % threads ? 1 : 0);
    workers.push_back(std::make_unique<ClosedWorker>(options_, message_, &result, share, time));
  }
  run_all(workers, time, &result);
  return result;
}

LoadResult GrpcLoad::open(std::span<const Nanoseconds> times, Nanoseconds length) {
  LoadResult result;
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::size_t i = 0; i < options_.threads; ++i) {
    std::vector<Nanoseconds> share;
    for (std::size_t j = i; j < times.size(); j += options_.threads) share.push_back(times[j]);
    workers.push_back(std::make_unique<OpenWorker>(options_, message_, &result, std::move(share)));
  }
  run_all(workers, length, &result);
  return result;
}

}  // namespace pyruntime
