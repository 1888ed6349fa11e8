#pragma once

#include <cstddef>

namespace sepconv {

/// Loads every cache line of n floats, in order, so that they are in L2: from memory twice as fast
/// as for an op that reads some channels of every pixel and then others.
inline void fetch_lines(const float* p, std::size_t n) {
  constexpr std::size_t kLine = 16;
  float sum = 0;
  for (std::size_t i = 0; i < n; i += kLine) sum += p[i];
  volatile float keep = sum;
  static_cast<void>(keep);
}

}  // namespace sepconv
