#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace sepconv {

/// Loops over contiguous floats (and pools, which are loops over pixels of contiguous channels).
struct VectorMathKernels {
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
  /// y[p] = scale · Σ x[p][c], and the largest of x[p][c], for pixels one after the other.
  void (*sum_channels)(const float* x, float scale, float* y, std::size_t pixels,
                       std::size_t channels);
  void (*max_channels)(const float* x, float* y, std::size_t pixels, std::size_t channels);
  /// Every pixel of x divided by its norm over the channels, √Σ x², or by `least` where that is
  /// more.
  void (*normalize)(const float* x, float least, float* y, std::size_t pixels,
                    std::size_t channels);
  /// y[i] = map[i] != 0 ? a[i] : b[i].
  void (*choose)(const float* map, const float* a, const float* b, float* y, std::size_t n);
  /// y[c] = max over pixels p of p[c]; `pixels` ≥ 1 pointers.
  void (*max_pixels)(const float* const* pixels, std::size_t count, float* y, std::size_t channels);
  /// y[c] = scale · Σ pixels, summed in parts whose order is that of the pointers.
  void (*sum_pixels)(const float* const* pixels, std::size_t count, float scale, float* y,
                     std::size_t channels);
  /// The same for pixels one after the other, the even and the odd ones in turns.
  void (*sum_row)(const float* x, std::size_t pixels, float scale, float* y, std::size_t channels);
  /// y[c] = Σ (x − mean[c])² over pixels one after the other, in the same order.
  void (*squared_deviations)(const float* x, const float* mean, std::size_t pixels, float* y,
                             std::size_t channels);
  /// y[c] = Σ pixels², in the order of sum_pixels.
  void (*sum_squares)(const float* const* pixels, std::size_t count, float* y,
                      std::size_t channels);
  /// y[i] = Σ weights[r] · rows[r][i] over `count` ≥ 1 rows, in their order.
  void (*weighted_sum)(const float* const* rows, const float* weights, std::size_t count, float* y,
                       std::size_t n);
  /// Every pixel of x to mean 0 and variance 1 over its channels, then times weight plus bias.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon,
                     float* y, std::size_t pixels, std::size_t channels);
  /// The same without a mean: to mean square 1.
  void (*rms_norm)(const float* x, const float* weight, const float* bias, float epsilon, float* y,
                   std::size_t pixels, std::size_t channels);
  /// Softmax of n values: exp(x − max) / Σ exp(x − max); x may be y.
  void (*softmax)(const float* x, float* y, std::size_t n);
  /// Its logarithm: x − max − log Σ exp(x − max).
  void (*log_softmax)(const float* x, float* y, std::size_t n);
  /// Three planes of n floats to n interleaved triples: the layout change that images need.
  void (*interleave3)(const float* const planes[3], float* y, std::size_t n);
  /// A number that n floats' bits decide: another one if any single float changes, and by chance
  /// the same for other changes once in 2^64.
  std::uint64_t (*fingerprint)(const float* x, std::size_t n);
};

const VectorMathKernels& vector_math_kernels();

}  // namespace sepconv
