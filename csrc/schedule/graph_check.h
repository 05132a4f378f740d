// Which batches may be captured as graphs of a device, as far as shapes decide; the engine decides
// the rest.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/device.h"
#include "schedule/batching_options.h"
#include "schedule/run_plan.h"

namespace pyruntime {

// A graph reads and writes the same memory at each replay, so that all shapes follow from the rows.
// Throws InvalidInput with the reason. rows: nothing is asked of none.
void check_graphs(const RunPlan& plan, const DeviceBackend& backend,
                  const BatchingOptions& batching, const std::vector<int64_t>& rows);

}  // namespace pyruntime
