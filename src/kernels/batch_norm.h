#pragma once

#include <cstddef>

#include "kernels/epilogue.h"

namespace sepconv {

/// Pixels of dense channels, and what lies between them and the activation's result:
/// y = activation(x · scale + shift). Values by channel need no padding.
struct BatchNormPixels {
  const float* x;
  const float* dy;  ///< backward only
  std::size_t pixels, channels;
  const float *scale, *shift, *mean;
  Epilogue activation;
  bool streams;  ///< stores go past the caches: whole vectors on their own boundaries
};

struct BatchNormKernels {
  /// y = activation(x · scale + shift); y may be x.
  void (*normalize)(const BatchNormPixels&, float* y);
  /// of_g[c] = Σ g and of_product[c] = Σ g · (x − mean), where g = dy · activation'(x · scale +
  /// shift).
  void (*gradient_sums)(const BatchNormPixels&, float* of_g, float* of_product);
  /// dx = scale · (g − (x − mean) · slope − level); dx may be dy.
  void (*input_gradient)(const BatchNormPixels&, const float* slope, const float* level, float* dx);
};

const BatchNormKernels& batch_norm_kernels();

}  // namespace sepconv
