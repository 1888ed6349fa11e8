#pragma once

#include <cstddef>

#include "kernels/epilogue.h"

namespace sepconv {

/// Loops over contiguous floats, or over pixels of contiguous channels.
struct ElementwiseKernels {
  std::size_t lanes;
  /// y[i] = activation(x[i]); x may be y.
  void (*activate)(const Epilogue&, const float* x, float* y, std::size_t n);
  /// y[i] = function(x[i]); exp and log within 2 ulp, as Highway says of its own.
  void (*apply)(Function, const float* x, float* y, std::size_t n);
  /// y[i] = activation(a[i] + b[i]); y may be a or b.
  void (*add)(const Epilogue&, const float* a, const float* b, float* y, std::size_t n);
  /// y[i] = a[i] / b[i]; y may be a or b.
  void (*divide)(const float* a, const float* b, float* y, std::size_t n);
  /// y[p][c] = x[p][c] · s[c] for pixels one after the other; y may be x.
  void (*scale_channels)(const float* x, const float* s, float* y, std::size_t pixels,
                         std::size_t channels);
  /// y[p][c] = activation(x[p][c] · s[c] + b[c]) for pixels one after the other; y may be x.
  void (*affine)(const Epilogue&, const float* x, const float* s, const float* b, float* y,
                 std::size_t pixels, std::size_t channels);
  /// y[p][c] = x[p][c], times slope[c] below 0, for pixels one after the other; y may be x.
  void (*prelu)(const float* x, const float* slope, float* y, std::size_t pixels,
                std::size_t channels);
  /// y[p][c] = x[p][c] · m[p] for pixels one after the other; y may be x.
  void (*scale_pixels)(const float* x, const float* m, float* y, std::size_t pixels,
                       std::size_t channels);
  /// y[i] = the larger of a[i] and b[i], NaN if either is; y may be a or b.
  void (*maximum)(const float* a, const float* b, float* y, std::size_t n);
  /// y[i] = map[i] != 0 ? a[i] : b[i].
  void (*choose)(const float* map, const float* a, const float* b, float* y, std::size_t n);
};

const ElementwiseKernels& elementwise_kernels();

}  // namespace sepconv
