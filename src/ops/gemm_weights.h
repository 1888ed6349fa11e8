#pragma once

#include <cstddef>

#include "ops/packed_weights.h"

namespace sepconv {

/// Weights as the GEMM kernels read them: panels of two vectors of output channels, in each the
/// products tap by tap, [taps · channels][columns].

/// Floats of weights and bias of `out` channels by `depth` products each, packed.
std::size_t gemm_weight_floats(std::size_t out, std::size_t depth);
std::size_t gemm_bias_floats(std::size_t out);

/// All of a layer's: weight [groups · out][channels][taps].
SharedWeights pack_gemm_weights(const LayerWeights& weights, std::size_t groups, std::size_t out,
                                std::size_t channels, std::size_t taps);

/// One group of them: weight [out][channels][taps], bias [out] or null.
void pack_gemm_weights(const float* weight, const float* bias, std::size_t out,
                       std::size_t channels, std::size_t taps, float* packed, float* packed_bias);

/// Those of a 1×1 convolution from `channels` to `out` channels that lie the other way round,
/// [channels][out], without bias.
SharedWeights pack_transposed_gemm_weights(const float* weight, std::size_t out,
                                           std::size_t channels);

}  // namespace sepconv
