#pragma once

#include <hwy/highway.h>

#include "base/cpu.h"

namespace sepconv {

/// The entry of `table` (made by HWY_EXPORT) for the best target that new ops may use. Decided here
/// rather than by Highway's process-wide choice, so that another user of Highway in the same
/// process neither sees our cap nor changes it.
template <class Function, std::size_t N>
Function dispatched(const Function (&table)[N]) {
  hwy::ChosenTarget chosen;
  chosen.Update(usable_targets());
  return table[chosen.GetIndex()];
}

}  // namespace sepconv
