#include "schedule/core_budget.h"

#include <algorithm>
#include <thread>

#include <sched.h>

namespace pyruntime {

CoreBudget& CoreBudget::instance() {
  static CoreBudget budget([] {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
    return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  }());
  return budget;
}

}  // namespace pyruntime
