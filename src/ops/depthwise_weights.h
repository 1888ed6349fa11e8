#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/packed_weights.h"
#include "ops/window.h"

namespace sepconv {

/// Weights [channels][group][rows.size][columns.size] and biases [channels] as DepthwiseRows wants
/// them, for vectors of `lanes` channels.
SharedWeights pack_depthwise_weights(const LayerWeights& weights, std::size_t channels,
                                     std::size_t group, const Window2d& window, std::size_t lanes);

/// The same for DepthwiseWinogradKernels: every row of taps transformed.
SharedWeights pack_depthwise_winograd_weights(const LayerWeights& weights, std::size_t channels,
                                              const Window2d& window, std::size_t lanes);

/// Whether sharing products between neighbouring outputs of rows `in_width` wide saves time and
/// leaves a network's result as exact: not weights that are not finite, and not those that are
/// mostly zeros, which may copy values.
bool suits_depthwise_winograd(const float* weight, std::size_t channels, const Window2d& window,
                              std::int64_t in_width, std::int64_t out_width);

}  // namespace sepconv
