// Which of kWhole places belongs to which arm of a split.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "serving/route_spec.h"

namespace pyruntime {

using SplitPlaces = std::array<uint8_t, kWhole>;

// The arm of each place, from the shares alone: whoever knows them knows where
// a key goes. Arms behind the first claim places from a start of their own, in
// pairs from both ends of a region, and the first has what is left. So a share
// that grows at the cost of the first arm's moves those keys and no others, as
// long as each pair fits into its region (two or three arms always do).
// shares: kWhole together, for at most kMaxArms arms.
SplitPlaces split_places(std::span<const int> shares);

}  // namespace pyruntime
