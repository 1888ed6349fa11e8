#pragma once

#include <span>

#include "kernels/epilogue.h"
#include "ops/panel_product.h"
#include "ops/row_op.h"
#include "ops/window.h"

namespace sepconv {

/// Convolution as GEMM on pixels: dense, grouped, 1×1 and linear layers. A pixel's taps are read
/// where they lie, so that no im2col buffer exists; rows with padding are copied once per band.
/// Where windows reach far into it, as dilated ones do on small maps, taps in the padding are left
/// out.
class ConvRows final : public RowOp {
 public:
  /// Weights are [output.channels][input.channels / groups][rows.size][columns.size], the bias
  /// [output.channels] or null.
  /// `scaled`: input rows come with a scale, for which the weights are multiplied; 1×1 only.
  ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
           std::int64_t groups, const LayerWeights& weights, const Epilogue& epilogue,
           ErrorBound bound, bool scaled = false);
  /// Without groups, on weights that were packed before.
  ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
           PackedPanels packed, const Epilogue& epilogue);

  /// The part of its products that it computes: less than 1 where it leaves taps out.
  static double computed_part(const ImageShape& input, const ImageShape& output,
                              const Window2d& window);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const override;
  std::int64_t shares() const override;
  /// The output channels of some of them.
  RowRange share_channels(RowRange shares) const;
  double repeated() const override { return product_.preparation(); }
  std::int64_t column_tile() const override { return 1; }
  void run_part(const Part& part, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const override;
  void write_past_caches() override { past_caches_ = true; }
  std::size_t weight_bytes() const override { return product_.weight_bytes(); }
  std::size_t call_bytes() const override { return product_.call_bytes(); }
  bool can_write_slice() const override { return true; }
  bool can_read_slice() const override { return window_.taps() == 1 && !copies_rows_; }
  double flops() const override;
  std::string describe() const override;

 private:
  struct Sources;

  ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
           PanelProduct product);
  std::size_t taps() const { return product_.shape().taps; }
  std::size_t padded_row_floats() const;
  std::size_t most_runs(std::int64_t rows) const;
  Sources pad_rows(RowRange out, const InputRows& x, std::byte*& workspace) const;
  bool makes_whole_lines() const;
  RowRange share_panels(RowRange shares) const;
  void run_band(const Part& band, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const;
  std::size_t find_runs(const Part& band, const Sources& source, const float* const* residual,
                        float* const* y, const float** places, PixelRun* runs) const;
  std::size_t find_stretches(const Part& band, const InputRows& x, const float* const* residual,
                             float* const* y, const float** places, PixelRun* runs) const;
  bool continues(const PixelRun& a, const PixelRun& b) const;
  std::size_t a_step() const;
  bool streams(std::span<const PixelRun> runs) const;
  std::span<const float> behind(const InputRows& x, RowRange in) const;

  Window2d window_;
  PanelProduct product_;
  std::vector<Stretch> stretches_;  ///< of a row, where taps in the padding are left out
  bool copies_rows_;                ///< rows are padded in the workspace before use
  bool past_caches_ = false;
  std::int64_t most_rows_;  ///< that are multiplied at once
};

}  // namespace sepconv
