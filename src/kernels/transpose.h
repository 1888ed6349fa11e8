#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

namespace sepconv {

/// Between planes (NCHW), where a channel's pixels are adjacent, and pixels (NHWC), where channels
/// are; up to `lanes` channels at a time.
struct TransposeKernels {
  static constexpr std::size_t kMostLanes = 16;
  std::size_t lanes;
  /// y[p · pixel + c] = planes[c][p] for p < pixels, c < channels; `planes` has `lanes` pointers
  /// to as many pixels, those from `channels` on to any.
  void (*to_pixels)(const float* const* planes, std::size_t channels, std::size_t pixels, float* y,
                    std::size_t pixel);
  /// planes[c][p] = x[p · pixel + c]. `streams`: stores go past the caches; every plane begins with
  /// a cache line, which must be one vector.
  void (*to_planes)(const float* x, std::size_t pixel, std::size_t channels, std::size_t pixels,
                    float* const* planes, bool streams);
  /// Three planes of n floats to n interleaved triples: the layout change that images need.
  void (*interleave3)(const float* const planes[3], float* y, std::size_t n);
};

const TransposeKernels& transpose_kernels();

/// Where `count` ≥ 1 planes start, `plane` floats apart; the last one again for all other lanes.
template <class T>
std::array<T*, TransposeKernels::kMostLanes> plane_pointers(T* first, std::size_t count,
                                                            std::size_t plane) {
  std::array<T*, TransposeKernels::kMostLanes> pointers;
  for (std::size_t c = 0; c < pointers.size(); ++c) {
    pointers[c] = first + std::min(c, count - 1) * plane;
  }
  return pointers;
}

}  // namespace sepconv
