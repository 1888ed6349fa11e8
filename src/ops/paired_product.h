#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "kernels/paired.h"
#include "ops/packed_weights.h"
#include "ops/pixel_runs.h"

namespace sepconv {

/// Rows of `taps` runs of `k` values times weight [groups][columns][taps · k].
struct PairedShape {
  std::size_t rows, groups, columns, taps, k;
};

/// The kernels that a product takes whose sums are added up in pairs, chosen when an op is built.
struct PairedSet {
  const PairedKernels* kernels;
  PreparePairedRows prepare;
  std::size_t parts;  ///< of a sum

  /// Nothing where that does not pay, where new ops may not do so, or where it would harm the
  /// result: weights that are not finite, and columns mostly of zeros, whose products with a row
  /// may be much smaller than the rest of it.
  static std::optional<PairedSet> choose(const PairedShape& shape, const float* weight);
  std::size_t workspace_bytes(std::size_t rows, std::size_t taps, std::size_t k) const;
  /// Of so many rows, prepared.
  static std::size_t prepared_bytes(std::size_t rows, std::size_t products);
};

/// Weights in panels as pack_gemm_weights makes them, but in the order of pairs and scaled by
/// column; the bias by panel, each followed by the inverse scales and by the starts of its columns.
SharedWeights pack_paired_weights(const LayerWeights& weights, std::size_t groups, std::size_t out,
                                  std::size_t channels, std::size_t taps);
/// Floats of a bias with those: so many times as many.
inline constexpr std::size_t kPairedBiasParts = 3;

/// Rows that are prepared once and multiplied by panel after panel. How a row is multiplied, and
/// so its result, depends on nothing but the row.
class PairedProduct {
 public:
  /// Prepares `rows` rows: those of the runs, as `tile` describes them (a_offset, a_step, taps, k),
  /// times `scale`, by k, if it is not null.
  PairedProduct(const PairedSet& set, const GemmTile& tile, const PixelRun* runs, std::size_t rows,
                const float* scale, std::byte* workspace);

  /// Multiplies all rows by a panel (b, bias, columns) and finishes them (epilogue, c_step) to
  /// column `column` of the runs' pixels.
  void multiply(const GemmTile& tile, std::size_t column) const;

 private:
  void prepare(const GemmTile& tile, const float* scale);
  const char* multiply_part(PairedTile tile, std::size_t triple, std::size_t column) const;

  PairedSet set_;
  const PixelRun* runs_;
  PairedRows prepared_;
  float *left_, *gathered_, *start_, *unscale_, *sums_;
  PairedKind* kind_;
};

}  // namespace sepconv
