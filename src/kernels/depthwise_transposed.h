#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise.h"

namespace sepconv {

/// One row of a transposed depthwise convolution's result.
struct DepthwiseTransposedRow {
  /// The rows of the input that reach it, and for each the window's row by which they do:
  /// [columns.size][pitch].
  const float* const* in;
  const float* const* weights;
  std::size_t count;  ///< at most kMostTransposedTaps
  float* out;
  std::int64_t in_width, out_width;
  std::size_t out_pixel;  ///< floats from one pixel to the next; of the input, `channels`
  std::size_t channels, pitch;
  Window columns;  ///< the forward window's, not dilated
  bool streams;    ///< stores go past the caches: whole vectors on their own boundaries
};

/// Rows and columns of a window that reach one output at most.
constexpr std::int64_t kMostTransposedTaps = 4;

struct DepthwiseTransposedKernels {
  std::size_t lanes;
  void (*row)(const DepthwiseTransposedRow&);
};

const DepthwiseTransposedKernels& depthwise_transposed_kernels();

}  // namespace sepconv
