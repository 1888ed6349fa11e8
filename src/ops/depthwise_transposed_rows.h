#pragma once

#include "kernels/depthwise_transposed.h"
#include "ops/packed_weights.h"
#include "ops/row_op.h"
#include "ops/window.h"

namespace sepconv {

/// The input gradient of a depthwise convolution with a stride: in the order of the outputs, so
/// that memory is written line by line.
class DepthwiseTransposedRows final : public RowOp {
 public:
  /// `window` is the forward convolution's; weight [channels][rows.size][columns.size].
  DepthwiseTransposedRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                          const float* weight);

  /// Whether it can compute this window, and is faster than TransposedConvRows at it.
  static bool pays(const Window2d& window);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const* second, float* const* y,
                std::byte* workspace) const override;
  void write_past_caches() override { past_caches_ = true; }
  std::size_t weight_bytes() const override { return packed_.floats * sizeof(float); }
  double flops() const override;
  std::string describe() const override;

 private:
  Window2d window_;
  const DepthwiseTransposedKernels* kernels_;
  std::size_t pitch_;
  PackedWeights packed_;  ///< [rows.size][columns.size][pitch]
  bool past_caches_ = false;
};

}  // namespace sepconv
