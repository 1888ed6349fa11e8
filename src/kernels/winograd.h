#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace sepconv {

/// Winograd's F(2×2, 3×3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
/// 2016): a tile of 2 × 2 outputs from 4 × 4 inputs by 16 products where 36 would do it directly.
constexpr std::size_t kWinogradProducts = 16;

/// A row of tiles.
struct WinogradTiles {
  std::size_t tiles, channels;
  std::int64_t width;  ///< pixels of an image's row: of the input, or of the output
  std::size_t matrix;  ///< floats from one of the 16 matrices [tiles][pitch] to the next
  std::size_t pitch;   ///< floats from a tile to the next, in matrices: at least `channels`
  /// Input only: the four rows under the tiles, null for padding, and where the first tile's left
  /// column lies in them.
  const float* const* in = nullptr;
  std::int64_t left = 0;
  /// Output only: the two rows, null where there is none, floats from one of their pixels to the
  /// next, and what happens on the way.
  float* const* out = nullptr;
  std::size_t pixel = 0;
  const float* const* residual = nullptr;  ///< rows like out, or null
  const float* bias = nullptr;             ///< by channel, padded to whole vectors
  Epilogue epilogue = {};
};

struct WinogradKernels {
  /// Bᵀ·d·B of every tile into the 16 matrices.
  void (*transform_input)(const WinogradTiles&, float* matrices);
  /// Aᵀ·m·A, bias, activation, residual.
  void (*transform_output)(const WinogradTiles&, const float* matrices);
};

const WinogradKernels& winograd_kernels();

}  // namespace sepconv
