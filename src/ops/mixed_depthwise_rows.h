#pragma once

#include <memory>
#include <vector>

#include "ops/depthwise_rows.h"

namespace sepconv {

/// Depthwise kernels of several sizes, each over its own range of channels (Tan and Le, "MixConv",
/// 2019), as one op: every part runs over the band while it is in cache.
class MixedDepthwiseRows final : public RowOp {
 public:
  struct Part {
    std::unique_ptr<const DepthwiseRows2d> op;
    std::int64_t channel;  ///< where its range starts
  };

  MixedDepthwiseRows(const ImageShape& input, const ImageShape& output, std::vector<Part> parts)
      : RowOp(input, output), parts_(std::move(parts)) {}

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* second, float* const* y,
                std::byte* workspace) const override;
  std::int64_t row_multiple() const override;
  std::size_t weight_bytes() const override;
  double flops() const override;
  std::string describe() const override;

 private:
  std::vector<Part> parts_;
};

}  // namespace sepconv
