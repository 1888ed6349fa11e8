#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "kernels/epilogue.h"

namespace sepconv {

/// Some rows of C = A·B: rows of A against one packed panel of B, a register tile at a time.
///
/// A row of A is the concatenation of `taps` runs of `k` floats that may lie anywhere (the rows of
/// an image under a k×k kernel, a ring buffer); from row to row each run moves by the same step.
struct GemmTile {
  const float* const* a;  ///< row i of tap t starts at a[t] + a_offset + i * a_step
  std::size_t a_offset;
  std::size_t a_step;
  std::size_t taps;
  std::size_t k;
  std::size_t start, count;  ///< which of a row's taps * k products to add up in this call
  float* sums;     ///< between calls: what start products came to, dense tiles one after the other
  const float* b;  ///< [taps * k] rows of the panel's whole vectors, 64-byte aligned
  /// By column (the panel's, padded), or one per row. Of products in pairs followed by what sums
  /// are multiplied by before, a whole panel's columns further, and then by what they start from.
  const float* bias;
  const float* row_scale;  ///< of products in pairs: what a row's sums are multiplied by too
  bool bias_per_row;
  float* c;               ///< row i is stored at c + i * c_step
  const float* residual;  ///< with c's step, or null
  std::size_t c_step;
  std::size_t columns;  ///< how many of the panel's columns exist
  bool streams;         ///< stores go past the caches where they can: rows on vectors' boundaries
  Epilogue epilogue;
  const char* ahead;       ///< what will be read after this panel: fetched into L2 meanwhile,
  std::size_t ahead_step;  ///< this many bytes further for each value of k
};

/// Longest `count`; longer sums are made of such parts, so that rounding errors do not grow with
/// the length of one chain.
inline constexpr std::size_t kGemmPart = 256;

/// `tiles` tiles of the function's number of rows each, one below the other; moves all pointers
/// past them.
using GemmFunction = void (*)(GemmTile&, std::size_t tiles);

/// The microkernels of one instruction set.
struct GemmKernels {
  std::string describe() const {
    return "gemm " + std::to_string(rows) + "x" + std::to_string(columns);
  }
  /// Floats of a row of a packed panel of so many columns: whole vectors.
  std::size_t panel_width(std::size_t of_columns) const {
    return (of_columns + lanes - 1) / lanes * lanes;
  }

  std::size_t lanes;
  std::size_t rows;         ///< of the largest tile
  std::size_t narrow_rows;  ///< of the largest tile one vector wide, which has as many sums or more
  std::size_t columns;      ///< columns of a whole panel: two vectors
  bool halves;  ///< a panel of one and a half vectors, or less, repeats the half in the vector's
                ///< rest
  const GemmFunction* tile[2];  ///< tile[v - 1][r - 1]: v vectors of columns, r rows
  /// to[k][j] = rows[k · step + j] for `count` rows of `columns` floats, then zeros up to whole
  /// vectors: a panel of what lies in rows already.
  void (*copy_panel)(const float* rows, std::size_t step, std::size_t count, std::size_t columns,
                     float* to);
  /// to[k][j] = panel[k][j] · scale[k] for `count` rows of `width` floats, whole vectors.
  void (*scale_panel)(const float* panel, const float* scale, std::size_t count, std::size_t width,
                      float* to);
  /// Behind tiles that stream: what they stored comes before all later stores.
  void (*finish_stream)();
};

const GemmKernels& gemm_kernels();

/// `rows` rows in tiles of nearly equal height: one of a few rows would take as long as a whole
/// one.
template <class Kernels, class Tile>
void multiply_rows(const Kernels& kernels, Tile& tile, std::size_t rows) {
  const bool narrow = tile.columns <= kernels.lanes;
  const std::size_t most = narrow ? kernels.narrow_rows : kernels.rows;
  const std::size_t tiles = (rows + most - 1) / most;
  const std::size_t height = rows / tiles, taller = rows % tiles;
  const auto* of_height = kernels.tile[narrow ? 0 : 1];
  if (taller > 0) of_height[height](tile, taller);
  of_height[height - 1](tile, tiles - taller);
}

/// Finishes a packed row of `columns` columns as the kernels want it: see GemmKernels::halves.
inline void finish_panel_row(const GemmKernels& kernels, std::size_t columns, float* row) {
  const std::size_t lanes = kernels.lanes, half = lanes / 2;
  if (kernels.halves && columns > lanes && columns <= lanes + half) {
    std::copy_n(row + lanes, half, row + lanes + half);
  }
}

}  // namespace sepconv
