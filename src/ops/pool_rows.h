#pragma once

#include "kernels/reductions.h"
#include "ops/row_wise.h"
#include "ops/window.h"
#include "sepconv/ops.h"

namespace sepconv {

/// Max or average over windows in NHWC; a window as large as the image makes a global pool.
class PoolRows final : public RowOp {
 public:
  PoolRows(const ImageShape& input, const ImageShape& output, const Window2d& window, Pool kind,
           bool count_include_pad);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const override;
  bool can_write_slice() const override { return true; }
  double flops() const override;
  std::string describe() const override;

 private:
  bool averages_rows() const;
  void pool(const float* const* runs, std::size_t count, float scale, float* y,
            std::size_t floats) const;
  void pool_line(const float* line, std::int64_t rows, const float** runs, float* y) const;

  Window2d window_;
  Pool kind_;
  bool count_include_pad_;
  const ReductionKernels* kernels_;
};

/// The largest or the mean of each pixel's channels.
class ChannelPoolRows final : public RowWise {
 public:
  ChannelPoolRows(const ImageShape& input, Pool kind)
      : RowWise(input, {input.height, input.width, 1}), kind_(kind) {}

  std::string describe() const override {
    return kind_ == Pool::kMax ? "max of channels" : "mean of channels";
  }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    if (kind_ == Pool::kMax) {
      kernels_->max_channels(x, y, pixels(), channels());
    } else {
      kernels_->sum_channels(x, 1.0F / static_cast<float>(channels()), y, pixels(), channels());
    }
  }
  double flops_each() const override { return 1; }

  Pool kind_;
  const ReductionKernels* kernels_ = &reduction_kernels();
};

}  // namespace sepconv
