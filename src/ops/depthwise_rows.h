#pragma once

#include <utility>

#include "kernels/depthwise.h"
#include "ops/error_bound.h"
#include "ops/packed_weights.h"
#include "ops/row_op.h"
#include "ops/window.h"

namespace sepconv {

/// Depthwise convolution in NHWC. Output channel c reads input channel c / multiplier, or else the
/// few of its group. A dilated window of stride 1 slides over every dilation-th row and pixel as
/// over neighbours.
class DepthwiseRows2d final : public RowOp {
 public:
  /// Weights are [output.channels][group][rows.size][columns.size], the bias [output.channels] or
  /// null. `group`: of input and output channels, 1 or one that `takes_groups` allows.
  DepthwiseRows2d(const ImageShape& input, const ImageShape& output, const Window2d& window,
                  const LayerWeights& weights, const Epilogue& epilogue, ErrorBound bound,
                  std::int64_t group = 1);

  /// Whether a convolution in so many groups is best done so: where a vector holds whole groups.
  static bool takes_groups(const ImageShape& input, const ImageShape& output,
                           const Window2d& window, std::int64_t groups);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const override;
  std::int64_t shares() const override;
  void run_part(const Part& part, const InputRows& x, const float* const* second, float* const* y,
                std::byte* workspace) const override;
  std::int64_t row_multiple() const override { return band_ * rows_apart(); }
  bool can_write_slice() const override { return true; }
  bool can_read_slice() const override { return multiplier_ == 1; }
  void read_slice_of(std::int64_t channels) override;
  bool goes_along_rows() const override { return true; }
  void write_past_caches() override { past_caches_ = true; }
  std::size_t weight_bytes() const override { return packed_->floats * sizeof(float); }
  double flops() const override;
  std::string describe() const override;

 private:
  std::size_t blocks() const;
  std::int64_t rows_apart() const { return interleaves_ ? window_.rows.dilation : 1; }
  std::int64_t pixels_apart() const { return interleaves_ ? window_.columns.dilation : 1; }
  std::int64_t source_pixel() const;
  void choose_band();
  bool fits_l1(std::int64_t band) const;
  const float* behind(std::int64_t end, const InputRows& x) const;
  bool streams(RowRange out, const float* const* y) const;
  void choose_kernel(const LayerWeights& weights, ErrorBound bound);
  struct Pointers;
  void run_band(DepthwiseRows args, std::int64_t top, std::int64_t band, const InputRows& x,
                float* const* y, const Pointers& room) const;
  std::pair<DepthwiseRows, std::int64_t> phase_of(DepthwiseRows rows, std::int64_t phase) const;
  InputRows repeat_channels(RowRange out, const InputRows& x, std::byte*& workspace) const;

  Window2d window_;
  Epilogue epilogue_;
  std::size_t lanes_;
  const DepthwiseScheme* scheme_;
  bool past_caches_ = false;
  bool interleaves_ = false;  ///< every dilation-th row and pixel are neighbours
  std::int64_t multiplier_, group_;
  std::int64_t band_ = 1;  ///< output rows at once
  SharedWeights packed_;
};

}  // namespace sepconv
