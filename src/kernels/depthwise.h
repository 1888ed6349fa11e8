#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace sepconv {

/// A window's extent along one axis and how it moves.
struct Window {
  std::int64_t size;
  std::int64_t stride;
  std::int64_t dilation;
  std::int64_t pad;  ///< before the first element
};

/// One or several output rows of a depthwise convolution in NHWC.
///
/// Weights and bias are packed by vectors of channels: block b holds the channels from
/// block_channel(b, channels, lanes), weights as [group][taps][lanes] with taps in row-major order.
struct DepthwiseRows {
  const float* const* in;  ///< the input rows under the first output row's taps, then those further
                           ///< down; null where a row lies in the padding
  float* const* out;
  std::size_t in_pixel, out_pixel;  ///< floats from one pixel to the next
  std::int64_t in_width, out_width;
  std::size_t channels;
  /// How many neighbouring channels of input each one of output reads, its own group's: a power of
  /// two, at most a vector's lanes, and only the grouped schemes take more than one.
  std::size_t group;
  Window rows, columns;
  const float* weights;
  const float* bias;
  Epilogue epilogue;
  std::size_t first_block, end_block;  ///< of the channels' blocks, those to compute
  /// Stores go past the caches: every vector of the output is a whole, aligned cache line.
  bool streams;
  /// What comes next in memory behind the input rows, up to ahead_end: fetched into L2, in order,
  /// about as many floats as these rows have. Or null.
  const float* ahead;
  const float* ahead_end;
};

/// Where block b of the channels starts: the last block overlaps its neighbour rather than ending
/// in a partial vector, as long as there is one whole vector.
inline std::size_t block_channel(std::size_t b, std::size_t channels, std::size_t lanes) {
  const std::size_t c = b * lanes;
  return c + lanes > channels && channels >= lanes ? channels - lanes : c;
}

using DepthwiseFunction = void (*)(const DepthwiseRows&);

/// rows[r - 1] computes r output rows at once, up to `band`.
struct DepthwiseScheme {
  static constexpr std::size_t kMaxBand = 4;
  const char* name;
  bool fetches;  ///< what DepthwiseRows has ahead
  std::size_t band;
  DepthwiseFunction rows[kMaxBand];
};

struct DepthwiseNhwcKernels {
  std::size_t lanes;
  /// Any window; more than one row at once only where the rows' stride and dilation are 1 and the
  /// window has at least as many.
  DepthwiseScheme general;
  /// A sliding window, for a square size 3, 5, 7 and stride 1, 2 without dilation and at least one
  /// whole vector of channels: [size / 2 - 1][stride - 1].
  std::array<std::array<DepthwiseScheme, 2>, 3> slide;
  /// The same for groups of channels and size 3: [stride - 1].
  std::array<DepthwiseScheme, 2> grouped;
};

const DepthwiseNhwcKernels& depthwise_nhwc_kernels();

/// How a row of taps is cut into pieces of which neighbouring outputs share products; see
/// depthwise_winograd.cc.
struct ShortFilters {
  std::int64_t threes, twos;  ///< pieces of so many taps, in this order

  /// Of a row of two taps or more.
  explicit constexpr ShortFilters(std::int64_t size)
      : threes(size % 3 == 1 ? size / 3 - 1 : size / 3), twos((3 - size % 3) % 3) {}
  constexpr std::size_t products() const { return static_cast<std::size_t>(4 * threes + 3 * twos); }
};

/// Windows of two columns or more with stride 1 and no dilation, for at least one whole vector of
/// channels; two rows at once only of windows of two rows or more. Weights are packed as
/// [rows.size][ShortFilters(columns.size).products()][lanes].
const DepthwiseScheme& depthwise_winograd_scheme();

}  // namespace sepconv
