#pragma once

#include <cstddef>

#include "kernels/epilogue.h"

namespace sepconv {

/// Pixels behind a convolution, with its activation.
struct ActivationPixels {
  const float* z;  ///< what went into the activation; for a clamp what came out does as well
  const float* dy;
  float* g;  ///< becomes dy · activation'(z), may be dy; null where there is no activation: g = dy
  std::size_t pixels, channels;
  Epilogue activation;
};

struct ActivationGradientKernels {
  /// Dense channels; sums[c] = Σ g.
  void (*pixels)(const ActivationPixels&, float* sums);
  /// One channel; Σ g.
  float (*plane)(const ActivationPixels&);
};

const ActivationGradientKernels& activation_gradient_kernels();

}  // namespace sepconv
