#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "kernels/amx.h"
#include "kernels/gemm.h"
#include "ops/pixel_runs.h"

namespace sepconv {

/// The kernels that a product on AMX takes, chosen when an op is built.
struct AmxSet {
  const GemmKernels* gemm;
  const AmxKernels* amx;
  const Bf16PartsKernels* parts;

  /// Nothing where AMX is missing or FMA is faster for `rows` × `columns` sums of `products`.
  static std::optional<AmxSet> choose(std::size_t rows, std::size_t columns, std::size_t products);
  /// The part of a row's time before it is multiplied by so many columns.
  double preparation(std::size_t columns) const;
  /// Whether a packed panel of the right side splits well.
  bool splits(const float* panel, std::size_t products, std::size_t width) const;
  /// Of so many rows, split.
  static std::size_t split_bytes(std::size_t rows, std::size_t products);
  std::size_t workspace_bytes(std::size_t rows, std::size_t taps, std::size_t k) const;
  /// "amx 32x32 bf16x3".
  static std::string describe();
};

/// Rows that are split for AMX once and multiplied by panel after panel. Rows that do not split
/// well (infinities, denormals) are multiplied by FMA, each for itself, so that a row's result
/// depends on nothing but the row.
class AmxProduct {
 public:
  /// Splits `rows` rows: those of the runs, as `tile` describes them (a_offset, a_step, taps, k).
  AmxProduct(const AmxSet& kernels, const GemmTile& tile, const PixelRun* runs, std::size_t rows,
             std::byte* workspace);
  ~AmxProduct();
  AmxProduct(const AmxProduct&) = delete;
  AmxProduct& operator=(const AmxProduct&) = delete;

  /// Multiplies all rows by a panel (b, columns) and finishes them (bias, epilogue, c_step) to
  /// column `column` of the runs' pixels.
  void multiply(GemmTile tile, std::size_t column);

 private:
  void split(const GemmTile& tile);
  void add_part(const GemmTile& tile, std::size_t column);
  void finish(const GemmTile& tile, std::size_t column, std::size_t rows, float* sums);
  void multiply_by_fma(GemmTile tile, std::size_t column);

  AmxSet kernels_;
  const PixelRun* runs_;
  std::size_t rows_, products_;
  std::size_t steps_, row_tiles_, tile_rows_;
  std::uint16_t *left_, *right_;
  float* sums_;      ///< of all rows where a panel is multiplied in parts, or of two tiles of them
  float* gathered_;  ///< a tile's rows with their taps joined, or one row's sums
  bool* by_fma_;     ///< by row
  PixelCursor next_{};  ///< what is to be finished next, and its row
  std::size_t row_ = 0;
};

}  // namespace sepconv
