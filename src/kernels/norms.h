#pragma once

#include <cstddef>

namespace sepconv {

/// Norms over each pixel's channels, and softmax.
struct NormKernels {
  /// Every pixel of x to mean 0 and variance 1 over its channels, then times weight plus bias.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon,
                     float* y, std::size_t pixels, std::size_t channels);
  /// The same without a mean: to mean square 1.
  void (*rms_norm)(const float* x, const float* weight, const float* bias, float epsilon, float* y,
                   std::size_t pixels, std::size_t channels);
  /// Every pixel of x divided by its norm over the channels, √Σ x², or by `least` where that is
  /// more.
  void (*normalize)(const float* x, float least, float* y, std::size_t pixels,
                    std::size_t channels);
  /// Softmax of n values: exp(x − max) / Σ exp(x − max); x may be y.
  void (*softmax)(const float* x, float* y, std::size_t n);
  /// Its logarithm: x − max − log Σ exp(x − max).
  void (*log_softmax)(const float* x, float* y, std::size_t n);
};

const NormKernels& norm_kernels();

}  // namespace sepconv
