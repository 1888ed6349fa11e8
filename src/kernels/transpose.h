#pragma once

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
};

const TransposeKernels& transpose_kernels();

}  // namespace sepconv
