// Work that must not be felt by those who serve requests.
#pragma once

#include <functional>

namespace pyruntime {

// Runs `work` on a thread of low priority and waits for it; rethrows what it
// throws. Threads that `work` makes have the low priority too, and keep it.
void run_in_background(const std::function<void()>& work);

}  // namespace pyruntime
