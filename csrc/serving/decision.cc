#include "serving/decision.h"

#include <utility>

#include "serving/shadow_runner.h"

namespace pyruntime {

std::string_view Decision::experiment() const {
  return traffic == nullptr ? std::string_view() : std::string_view(traffic->spec().name);
}

std::string_view Decision::arm_name() const {
  return experiment().empty() ? std::string_view()
                              : std::string_view(traffic->spec().arms[arm].name);
}

void Decision::watch_tracked(Request& request, std::string_view id) {
  traffic->arm(arm).count_assigned();
  id_ = id;
  // What will be refused may be no memory that can be read.
  if (shadow != nullptr && model->check(request).ok()) {
    job_ = shadow->runner->copy(shadow, arm, request);
  }
  on_complete_ = request.on_complete;
  context_ = request.context;
  request.on_complete = &Decision::complete;
  request.context = this;
}

void Decision::end_tracked(const Request& request) {
  if (request.is_done()) return;
  traffic->arm(arm).count_refused();
  if (job_ != nullptr) shadow->runner->drop(std::exchange(job_, nullptr));
}

void Decision::complete(void* context, Request& request) noexcept {
  auto* const decision = static_cast<Decision*>(context);
  const RequestTiming& timing = request.timing;
  Traffic& traffic = *decision->traffic;
  traffic.arm(decision->arm)
      .count_outcome(request.status.code(),
                     timing.queue_ns + timing.gather_ns + timing.run_ns + timing.scatter_ns);
  if (request.status.ok() && !decision->id_.empty()) {
    traffic.note_answered(decision->id_, decision->arm);
  }
  if (decision->job_ != nullptr) {
    decision->shadow->runner->complete(std::exchange(decision->job_, nullptr), request);
  }
  request.on_complete = decision->on_complete_;
  request.context = decision->context_;
  // Last: whoever is told may let go of the decision.
  if (request.on_complete != nullptr) request.on_complete(request.context, request);
}

void Decision::reset() {
  model.reset();
  traffic.reset();
  shadow.reset();
  arm = 0;
  id_ = {};
}

}  // namespace pyruntime
