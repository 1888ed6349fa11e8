#pragma once

#include <cstdint>
#include <vector>

#include "sepconv/resampling.h"

namespace sepconv {

enum class ResampleFilter { kTriangle, kCubic };

/// What one output of a resampling is made of: inputs [first, first + weights.size()), weights of
/// sum 1.
struct ResampleTaps {
  std::int64_t first;
  std::vector<double> weights;
};

/// For each of `out` outputs over `in` inputs, the filter stretched by the reduction factor, so
/// that reducing does not alias: the rule of Pillow (src/libImaging/Resample.c) and of PyTorch's
/// interpolate(antialias=True). in, out ≥ 1.
std::vector<ResampleTaps> resample_taps(std::int64_t in, std::int64_t out, ResampleFilter filter);

/// The same between points of the input, which goes on beyond its ends with its first and last
/// value: ONNX's Resize without antialias, PyTorch's interpolate. `scale` is output by input, as
/// the rule for coordinates wants it: not always out / in.
std::vector<ResampleTaps> interpolation_taps(std::int64_t in, std::int64_t out, double scale,
                                             const Resampling& how);

}  // namespace sepconv
