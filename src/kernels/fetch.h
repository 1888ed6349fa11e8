#pragma once

#include <cstddef>

#include "base/aligned.h"

namespace sepconv {

/// Starts to bring a line into L2. Always inline, as gcc leaves out calls that do nothing else.
[[gnu::always_inline]] inline void prefetch_to_l2(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace sepconv
