#pragma once

#include <algorithm>
#include <cstddef>

namespace sepconv {

/// Pixels of so many channels that are summed up at a time, before the sums are added in double:
/// they stay in L1 or L2 for a second look. The same on every machine.
inline std::size_t pixels_of_part(std::size_t channels) {
  constexpr std::size_t kFloats = 1 << 14;
  return std::clamp<std::size_t>(kFloats / std::max<std::size_t>(1, channels), 8, 4096);
}

}  // namespace sepconv
