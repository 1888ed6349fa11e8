#pragma once

#include <cstddef>
#include <cstdint>

namespace sepconv {

/// Both gradients of a depthwise 3×3 convolution of stride 1, for some rows of dX of one image and
/// one vector of channels.
struct DepthwiseBackward {
  const float* x;  ///< the image at its first channel of these
  const float* dy;
  float* dx;
  const float* zeros;    ///< what a row of dY that does not exist is: out_width * pixel floats
  const float* weights;  ///< [9][lanes]
  float* dw;             ///< [9][lanes], added to
  std::size_t pixel;     ///< floats from one pixel to the next, of all three images
  std::int64_t width, out_height, out_width;  ///< of X and dX; of dY
  std::int64_t row_begin, row_end;            ///< of dX
  std::int64_t pad_top, pad_left;             ///< of the forward convolution
  bool streams;  ///< stores go past the caches: whole lines on their own boundaries
  /// What is brought into L2 meanwhile, as many lines of each as there are pixels of dX; or null.
  const float *x_ahead, *dy_ahead;
};

/// Null where registers do not suffice.
using DepthwiseBackwardFunction = void (*)(const DepthwiseBackward&);

DepthwiseBackwardFunction depthwise_backward();

}  // namespace sepconv
