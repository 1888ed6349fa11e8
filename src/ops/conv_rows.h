#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/gemm.h"
#include "kernels/gemv.h"
#include "ops/amx_product.h"
#include "ops/error_bound.h"
#include "ops/gemm_weights.h"
#include "ops/paired_product.h"
#include "ops/row_op.h"
#include "ops/window.h"

namespace sepconv {

/// Convolution as GEMM on pixels: dense, grouped, 1×1 and linear layers. A pixel's taps are read
/// where they lie, so that no im2col buffer exists; rows with padding are copied once per band.
class ConvRows final : public RowOp {
 public:
  /// Weights are [output.channels][input.channels / groups][rows.size][columns.size], the bias
  /// [output.channels] or null.
  /// `scaled`: input rows come with a scale, for which the weights are multiplied; 1×1 only.
  ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
           std::int64_t groups, const LayerWeights& weights, const Epilogue& epilogue,
           ErrorBound bound, bool scaled = false);
  /// Where an op's weights start among some that were packed before.
  struct Packed {
    SharedWeights all;
    std::size_t weight = 0;
    std::size_t column = 0;                         ///< that its bias starts at
    bool followed = false;                          ///< what lies behind its weights is read next
    std::optional<PairedSet> pairs = std::nullopt;  ///< how they were packed
  };
  /// Without groups, on such weights.
  ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window, Packed packed,
           const Epilogue& epilogue);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const override;
  std::int64_t shares() const override;
  /// The output channels of some of them.
  RowRange share_channels(RowRange shares) const;
  void run_shares(RowRange shares, RowRange out, const InputRows& x, const float* const* residual,
                  float* const* y, std::byte* workspace) const override;
  void write_past_caches() override { past_caches_ = true; }
  std::size_t weight_bytes() const override { return weight_floats_ * sizeof(float); }
  // Splitting weights for AMX takes as long as reading them from L2 four times.
  std::size_t call_bytes() const override { return weight_bytes() * (amx_ ? 4 : 1); }
  bool can_write_slice() const override { return true; }
  bool can_read_slice() const override { return window_.taps() == 1 && !copies_rows_; }
  double flops() const override;
  std::string describe() const override;

 private:
  struct Sources;
  struct Batch;

  ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
           std::int64_t groups, const Epilogue& epilogue);
  RowRange share_panels(RowRange shares) const;
  std::int64_t to_channel(std::int64_t panel) const;
  void use_weights(const float* weights, const float* bias);
  std::size_t pixels() const;
  std::optional<AmxSet> choose_amx() const;
  std::size_t bias_parts() const { return pairs_ ? kPairedBiasParts : 1; }
  std::size_t tile_rows() const { return pairs_ ? pairs_->kernels->rows : kernels_->rows; }
  std::size_t scaled_floats() const;
  Sources pad_rows(RowRange out, const InputRows& x, std::byte*& workspace) const;
  std::size_t a_step() const;
  bool streams(const Batch& batch) const;
  std::span<const float> behind(const InputRows& x, RowRange in) const;
  void look_ahead(GemmTile& tile, std::size_t panel, RowRange panels, const Batch& batch) const;
  bool continues(const PixelRun& a, const PixelRun& b) const;
  std::size_t sum_floats(std::int64_t rows) const;
  void run_panels(RowRange panels, RowRange out, const InputRows& x, const float* const* residual,
                  float* const* y, std::byte* workspace) const;
  GemmTile panel_tile(std::size_t panel) const;
  void multiply(RowRange panels, const Batch& batch) const;
  PairedProduct prepare_group(const GemmTile& tile, const Batch& batch) const;
  std::size_t multiply_row(std::size_t first, std::size_t end, const PixelRun& run) const;
  void multiply_by_fma(GemmTile tile, std::size_t column, const Batch& batch) const;
  bool multiply_by_amx(GemmTile tile, std::size_t panel, std::size_t column,
                       const Batch& batch) const;

  Window2d window_;
  std::int64_t groups_;
  bool scaled_ = false;
  bool past_caches_ = false;
  Epilogue epilogue_;
  const GemmKernels* kernels_;
  const GemvKernels* row_kernels_ = nullptr;  ///< of an output of one pixel; or null
  bool copies_rows_;                          ///< rows are padded in the workspace before use
  std::size_t taps_, k_;                      ///< as in GemmTile
  std::size_t panels_;                        ///< per group
  std::size_t panel_floats_;
  std::size_t weight_floats_;
  SharedWeights packed_;
  const float* weights_ = nullptr;  ///< [groups][panels][taps * k][panel columns]
  bool followed_ = false;
  const float* bias_ = nullptr;  ///< [groups][panels][columns], or as paired weights have it
  std::optional<AmxSet> amx_;
  std::optional<PairedSet> pairs_;
  std::int64_t most_rows_;    ///< that are prepared at once for either
  std::vector<bool> splits_;  ///< by panel, unless scaled
};

}  // namespace sepconv
