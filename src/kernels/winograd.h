#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace sepconv {

/// One of Winograd's algorithms, F(outputs × outputs, taps × taps) (Lavin and Gray, "Fast
/// Algorithms for Convolutional Neural Networks", 2016): a tile of outputs from points × points
/// inputs by as many products, where outputs² · taps² would do it directly. Built are F(2×2, 3×3)
/// with the points 0, ±1 and ∞, F(4×4, 3×3) and F(2×2, 5×5) with 0, ±√½, ±√2 and ∞.
struct WinogradSize {
  std::size_t outputs, taps;

  constexpr std::size_t points() const { return outputs + taps - 1; }
  constexpr std::size_t products() const { return points() * points(); }
};
constexpr std::size_t kMaxWinogradPoints = 6, kMaxWinogradOutputs = 4;

/// Tiles of one row, evenly spaced. A dilated window's tile takes every dilation-th row and column.
struct WinogradTiles {
  std::size_t tiles, channels;
  std::int64_t width;  ///< pixels of an image's row: of the input, or of the output
  std::size_t matrix;  ///< floats from one product's matrix [tiles][pitch] to the next
  std::size_t pitch;   ///< floats from a tile to the next, in matrices: at least `channels`
  std::int64_t step, dilation;  ///< columns from a tile to the next, and within a tile
  /// Input only: the `points` rows under the tiles, null for padding, and the column of the first
  /// tile's left edge.
  const float* const* in = nullptr;
  std::int64_t left = 0;
  /// Output only: the `outputs` rows, null where there is none, floats from one of their pixels to
  /// the next, and what happens on the way.
  float* const* out = nullptr;
  std::size_t pixel = 0;
  const float* const* residual = nullptr;  ///< rows like out, or null
  const float* bias = nullptr;             ///< by channel, padded to whole vectors
  Epilogue epilogue = {};
};

struct WinogradKernels {
  /// Bᵀ·d·B of every tile into the matrices.
  void (*transform_input)(const WinogradTiles&, float* matrices);
  /// Aᵀ·m·A, bias, activation, residual.
  void (*transform_output)(const WinogradTiles&, const float* matrices);
};

const WinogradKernels& winograd_kernels(WinogradSize size);

}  // namespace sepconv
