#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise.h"

namespace sepconv {

/// The gradient of a depthwise convolution's weights, from some output rows of one image and one
/// vector of channels.
struct DepthwiseWeightGradient {
  const float* x;      ///< the image at its first channel of these
  const float* dy;     ///< the output's gradient likewise
  const float* zeros;  ///< what a row of x in the padding is: in_width * in_pixel floats
  std::size_t in_pixel, out_pixel;  ///< floats from one pixel to the next
  std::int64_t in_height, in_width, out_width;
  std::int64_t row_begin, row_end;  ///< of the output
  std::size_t channels;             ///< of the vector's lanes
  Window rows, columns;
  float* dw;  ///< [taps][lanes], added to
  /// What is brought into L2 meanwhile, as many lines as there are outputs, times the strides for
  /// x; or null.
  const float *x_ahead, *dy_ahead;
};

/// Some columns of C = Aᵀ·B, A and B having one row for each of `count` pixels.
struct OuterProducts {
  const float* a;  ///< [count] rows, a_step floats apart, of at least `rows` floats
  std::size_t a_step;
  const float* b;
  std::size_t b_step;
  std::size_t count;
  std::size_t rows, columns;  ///< of C
  float* c;                   ///< row i at c + i * c_step
  std::size_t c_step;
  const char* ahead;       ///< what will be read later: fetched into L2 meanwhile,
  std::size_t ahead_step;  ///< so many bytes for each pixel
};

struct GradientKernels {
  std::size_t lanes;
  std::size_t rows, columns;  ///< of the largest tile of C
  void (*depthwise_weight)(const DepthwiseWeightGradient&);
  /// Adds to C, which is one tile at most.
  void (*outer_products)(const OuterProducts&);
};

const GradientKernels& gradient_kernels();

}  // namespace sepconv
