#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/winograd.h"
#include "ops/conv_rows.h"

namespace sepconv {

/// A dense 3×3 or 5×5 convolution of stride 1 by one of Winograd's algorithms: two transforms
/// around a matrix product for each product of a tile. Rounding errors are larger than the direct
/// kernel's (docs/numerics.md), and a value that is not finite may reach all outputs of a tile.
/// A dilated window's tiles take every dilation-th row and column; those that lie within each other
/// are a block.
class WinogradRows final : public RowOp {
 public:
  /// As ConvRows, without groups.
  WinogradRows(WinogradSize size, const ImageShape& input, const ImageShape& output,
               const Window2d& window, const LayerWeights& weights, const Epilogue& epilogue);

  /// Whether there is a size for such a window.
  static bool suits(const Window2d& window, std::int64_t groups);
  /// The size that should take the least time, nothing if that is ConvRows.
  static std::optional<WinogradSize> best(const ImageShape& input, const ImageShape& output,
                                          const Window2d& window, std::int64_t groups);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const override;
  std::int64_t row_multiple() const override { return row_tile(); }
  std::int64_t row_tile() const override { return side() * window_.rows.dilation; }
  std::int64_t shares() const override;
  double repeated() const override;
  std::int64_t column_tile() const override { return side() * window_.columns.dilation; }
  void run_part(const Part& part, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const override;
  std::size_t weight_bytes() const override;
  bool can_write_slice() const override { return true; }
  double flops() const override;
  std::string describe() const override;

 private:
  struct Work;
  struct Tiles;

  std::int64_t side() const { return static_cast<std::int64_t>(size_.outputs); }
  SharedWeights pack(const LayerWeights& layer, PageArena* arena) const;
  std::size_t block_tiles() const {
    return to_size(window_.rows.dilation * window_.columns.dilation);
  }
  Part in_tiles(const Part& part) const;
  template <class Each>
  void for_tiles(const Work& work, const Each& each) const;
  void spread(const Work& work, RowRange out, const InputRows& x) const;
  void multiply(const Work& work, std::byte* workspace) const;
  void gather(const Work& work, RowRange out, const float* const* residual, float* const* y) const;
  std::size_t matrix_floats(std::size_t tile_rows, std::int64_t channels) const;

  WinogradSize size_;
  Window2d window_;
  Epilogue epilogue_;
  std::size_t tiles_;  ///< in a row of blocks
  const WinogradKernels* kernels_;
  std::vector<std::unique_ptr<ConvRows>> products_;  ///< one for each matrix: tiles as pixels
  SharedWeights packed_;  ///< all matrices; the products' bias, zero, and the layer's own
};

}  // namespace sepconv
