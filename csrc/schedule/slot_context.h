// What the batch slots of an instance run with.
#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"
#include "memory/device.h"
#include "schedule/fair_share.h"
#include "schedule/overlap.h"
#include "schedule/run_plan.h"
#include "schedule/scheduler_stats.h"

namespace pyruntime {

// All must outlive the slots.
struct SlotContext {
  Session& session;
  DeviceBackend& backend;
  BufferPool& host_pool;
  BufferPool* device_pool;  // null where the host may use the device's memory
  RunPlan& plan;
  SchedulerStats& stats;
  FairShare::Member& share;
  OverlapChoice& overlap;
  const std::vector<int64_t>& graph_rows;  // ascending; of runs that are captured
  const Clock& clock;
  int64_t max_rows;
};

}  // namespace pyruntime
