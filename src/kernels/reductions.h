#pragma once

#include <cstddef>
#include <cstdint>

namespace sepconv {

/// Sums and maxima over pixels of contiguous channels, or over these.
struct ReductionKernels {
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
  /// y[p] = scale · Σ x[p][c], and the largest of x[p][c], for pixels one after the other.
  void (*sum_channels)(const float* x, float scale, float* y, std::size_t pixels,
                       std::size_t channels);
  void (*max_channels)(const float* x, float* y, std::size_t pixels, std::size_t channels);
  /// A number that n floats' bits decide: another one if any single float changes, and by chance
  /// the same for other changes once in 2^64.
  std::uint64_t (*fingerprint)(const float* x, std::size_t n);
};

const ReductionKernels& reduction_kernels();

}  // namespace sepconv
