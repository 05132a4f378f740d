// Threads do not survive fork(): what was made before it is told apart.
#pragma once

#include <cstdint>

namespace pyruntime {

// 0 in the first process, one more in each child made by fork(). What keeps
// threads remembers it and refuses to work when it has changed.
uint64_t fork_generation();

}  // namespace pyruntime
