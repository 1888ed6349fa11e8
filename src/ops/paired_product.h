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

  std::size_t products() const { return taps * k; }
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
  /// The part of a row's time before it is multiplied.
  double preparation(const PairedShape& shape) const;
  /// For so many of the shape's rows.
  std::size_t workspace_bytes(std::size_t rows, const PairedShape& shape) const;
  /// Rows that are best multiplied at once: those whose prepared values stay in L2, or all, in as
  /// many steps as that takes, where fewer would read long sums' weights from beyond L2 too often.
  std::size_t rows_at_once(const PairedShape& shape) const;
};

/// Weights in panels as pack_gemm_weights makes them, but in the order of pairs and scaled by
/// column; the bias by panel, each followed by the inverse scales and by the starts of its columns.
SharedWeights pack_paired_weights(const LayerWeights& weights, std::size_t groups, std::size_t out,
                                  std::size_t channels, std::size_t taps);
/// Floats of a bias with those: so many times as many.
inline constexpr std::size_t kPairedBiasParts = 3;

/// Rows that are prepared once and multiplied by panel after panel. How a row is multiplied, and
/// so its result, depends on nothing but the row. Of sums that are so long that the prepared values
/// of all rows would not stay in L2 some products are prepared and added for all panels at a time:
/// a step.
class PairedProduct {
 public:
  /// Of `rows` rows: those of the runs, as `tile` describes them (a_offset, a_step, taps, k), times
  /// `scale`, by k, if it is not null.
  PairedProduct(const PairedSet& set, const PairedShape& shape, const GemmTile& tile,
                const PixelRun* runs, std::size_t rows, const float* scale, std::byte* workspace);

  std::size_t steps() const { return steps_; }
  /// Where a step's products begin in a panel.
  std::size_t first_product(std::size_t step) const;
  /// Before any panel is multiplied, the steps in their order.
  void prepare(std::size_t step);
  /// Adds the step's products of all rows with a panel (b, bias, columns), the `panel`-th of those
  /// that are multiplied, and with the last step's finishes them (epilogue, c_step) to column
  /// `column` of the runs' pixels.
  void multiply(const GemmTile& tile, std::size_t panel, std::size_t column) const;

 private:
  const char* multiply_part(PairedTile tile, std::size_t triple, std::size_t column) const;

  PairedSet set_;
  GemmTile tile_;
  const PixelRun* runs_;
  const float* scale_;
  std::size_t steps_, step_ = 0;
  PairedRows prepared_;
  float *left_, *gathered_, *start_, *unscale_, *sums_;
  PairedKind* kind_;
};

}  // namespace sepconv
