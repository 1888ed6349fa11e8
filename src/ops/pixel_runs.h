#pragma once

#include <algorithm>
#include <cstddef>

#include "kernels/gemm.h"

namespace sepconv {

/// Output pixels that follow each other in memory, as their inputs do.
struct PixelRun {
  const float* const* taps;  ///< where the first pixel's taps start; null, of a sparse product, for
                             ///< those that are not there
  float* y;
  const float* residual;  ///< or null
  std::size_t pixels;
};

/// A pixel of some runs.
struct PixelCursor {
  const PixelRun* run;
  std::size_t pixel;

  /// Further by `count` pixels, at most to the end of the run.
  void advance(std::size_t count) {
    pixel += count;
    if (pixel == run->pixels) *this = {run + 1, 0};
  }

  /// Where its tap t is, as `tile` describes them (a_offset, a_step).
  const float* tap(const GemmTile& tile, std::size_t t) const {
    return run->taps[t] + tile.a_offset + pixel * tile.a_step;
  }

  /// All its taps' values, one after the other.
  void gather(const GemmTile& tile, float* to) const {
    for (std::size_t t = 0; t < tile.taps; ++t, to += tile.k) std::copy_n(tap(tile, t), tile.k, to);
  }

  /// Lets a tile begin at column `column` of the pixel's results.
  void place(GemmTile& tile, std::size_t column) const {
    const std::size_t at = column + pixel * tile.c_step;
    tile.c = run->y + at;
    tile.residual = run->residual ? run->residual + at : nullptr;
  }
};

}  // namespace sepconv
