// Runs a batch again and again to see which overlap is fastest for it.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "base/clock.h"
#include "schedule/batch.h"
#include "schedule/batch_slot.h"
#include "schedule/fair_share.h"
#include "schedule/overlap.h"

namespace pyruntime {

// Nobody is answered and nothing is counted. None where a trial failed: the batch is then as good
// as before, but a slot may be lost.
// batch: sealed. slots: of one instance, none of them in use, as many as any overlap needs.
// share: where it takes turns with other models, one for some batches.
//
// Threads: the owner of the instance.
std::optional<OverlapTimes> time_overlaps(std::span<const std::unique_ptr<BatchSlot>> slots,
                                          const Batch& batch, FairShare::Member& share,
                                          const Clock& clock);

}  // namespace pyruntime
