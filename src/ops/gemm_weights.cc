#include "ops/gemm_weights.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/sizes.h"
#include "kernels/gemm.h"

namespace sepconv {

SharedWeights pack_gemm_weights(const LayerWeights& weights, std::size_t groups, std::size_t out,
                                std::size_t channels, std::size_t taps) {
  const std::size_t depth = channels * taps, each = gemm_weight_floats(out, depth);
  const std::size_t bias_each = gemm_bias_floats(out);
  return weights.packed(
      fmt::format("gemm {} of {}", groups, gemm_kernels().columns), [&](PageArena* arena) {
        auto all = std::make_shared<PackedWeights>(groups * each, groups * bias_each, arena);
        for (std::size_t g = 0; g < groups; ++g) {
          pack_gemm_weights(weights.weight() + g * out * depth,
                            weights.bias() ? weights.bias() + g * out : nullptr, out, channels,
                            taps, all->weights.get() + g * each, all->bias.get() + g * bias_each);
        }
        return all;
      });
}

std::size_t gemm_weight_floats(std::size_t out, std::size_t depth) {
  const std::size_t wide = gemm_kernels().columns;
  return divide_up(out, wide) * wide * depth;
}

std::size_t gemm_bias_floats(std::size_t out) { return gemm_weight_floats(out, 1); }

void pack_gemm_weights(const float* weight, const float* bias, std::size_t out,
                       std::size_t channels, std::size_t taps, float* packed, float* packed_bias) {
  const GemmKernels& kernels = gemm_kernels();
  const std::size_t wide = kernels.columns, depth = taps * channels;
  for (std::size_t first = 0; first < out; first += wide) {
    const std::size_t columns = std::min(wide, out - first);
    const std::size_t width = kernels.panel_width(columns);
    float* panel = packed + first * depth;
    // A cache line or more of each output channel at a time.
    constexpr std::size_t kBlock = 16;
    for (std::size_t begin = 0; begin < channels; begin += kBlock) {
      const std::size_t end = std::min(begin + kBlock, channels);
      for (std::size_t j = 0; j < columns; ++j) {
        const float* w = weight + (first + j) * depth + begin * taps;
        for (std::size_t c = begin; c < end; ++c) {
          for (std::size_t t = 0; t < taps; ++t) panel[(t * channels + c) * width + j] = *w++;
        }
      }
    }
    for (std::size_t j = 0; j < columns; ++j) {
      packed_bias[first + j] = bias ? bias[first + j] : 0.0F;
    }
    for (std::size_t k = 0; k < depth; ++k) finish_panel_row(kernels, columns, panel + k * width);
    finish_panel_row(kernels, columns, packed_bias + first);
  }
}

SharedWeights pack_transposed_gemm_weights(const float* weight, std::size_t out,
                                           std::size_t channels) {
  const GemmKernels& kernels = gemm_kernels();
  const std::size_t wide = kernels.columns;
  auto packed =
      std::make_shared<PackedWeights>(gemm_weight_floats(out, channels), gemm_bias_floats(out));
  for (std::size_t first = 0; first < out; first += wide) {
    const std::size_t columns = std::min(wide, out - first);
    const std::size_t width = kernels.panel_width(columns);
    float* panel = packed->weights.get() + first * channels;
    kernels.copy_panel(weight + first, out, channels, columns, panel);
    for (std::size_t k = 0; k < channels; ++k) {
      finish_panel_row(kernels, columns, panel + k * width);
    }
  }
  return packed;
}

}  // namespace sepconv
