// Which version answers a request and why, and what is to be noted of it when it is
// done.
//
//   Decision decision;
//   Status s = registry.route("digits", {.key = user}, &decision);
//   RequestRef request = decision.model->new_request();  // fill it
//   decision.watch(*request, id);
//   s = decision.model->infer(request);  // or submit()
//   decision.end(s, *request);           // after infer(), or when submit() refused
//
// Where no policy is set, watch() and end() do nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "schedule/request.h"
#include "serving/model.h"
#include "serving/shadow.h"
#include "serving/traffic.h"

namespace pyruntime {

struct ShadowJob;

// Threads: one user at a time, and the request's completion on any.
class Decision {
 public:
  Decision() = default;
  Decision(const Decision&) = delete;  // a watched request points here
  Decision& operator=(const Decision&) = delete;

  std::shared_ptr<ModelVersion> model;
  std::shared_ptr<Traffic> traffic;  // null: nothing is counted
  std::size_t arm = 0;
  std::shared_ptr<const ShadowRoute> shadow;  // gets a copy; null: none does

  // The experiment and the arm's name in it; empty where it is none.
  std::string_view experiment() const;
  std::string_view arm_name() const;

  // Whether watch() and end() have anything to do.
  bool is_watching() const { return traffic != nullptr; }
  // Before the request is handed over: takes note of how it ends. Until then,
  // or end(), this must not move or die. id: of the request; lives as long.
  void watch(Request& request, std::string_view id = {}) {
    if (traffic != nullptr) watch_tracked(request, id);
  }
  // After submit() has refused it, or infer() has returned.
  void end(const Status& status, const Request& request) {
    if (traffic != nullptr && !status.ok()) end_tracked(request);
  }

  void reset();

 private:
  void watch_tracked(Request& request, std::string_view id);
  void end_tracked(const Request& request);
  static void complete(void* context, Request& request) noexcept;

  std::string_view id_;
  ShadowJob* job_ = nullptr;  // the copy, until completion
  // What the request would have called without this.
  CompletionFn on_complete_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace pyruntime
