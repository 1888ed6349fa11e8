#pragma once

#include <algorithm>
#include <cstddef>

namespace sepconv {

/// The floats of `pixels` pixels, from_step apart, to pixels to_step apart. A call for each would
/// take longer than a few of them do.
template <std::size_t kChannels>
void copy_few(const float* from, std::size_t from_step, float* to, std::size_t to_step,
              std::size_t pixels) {
  for (std::size_t p = 0; p < pixels; ++p, from += from_step, to += to_step) {
    for (std::size_t c = 0; c < kChannels; ++c) to[c] = from[c];
  }
}

inline void copy_pixels(const float* from, std::size_t from_step, float* to, std::size_t to_step,
                        std::size_t channels, std::size_t pixels) {
  if (channels == 1) return copy_few<1>(from, from_step, to, to_step, pixels);
  if (channels == 2) return copy_few<2>(from, from_step, to, to_step, pixels);
  if (channels == 3) return copy_few<3>(from, from_step, to, to_step, pixels);
  if (channels == 4) return copy_few<4>(from, from_step, to, to_step, pixels);
  for (std::size_t p = 0; p < pixels; ++p, from += from_step, to += to_step) {
    std::copy_n(from, channels, to);
  }
}

}  // namespace sepconv
