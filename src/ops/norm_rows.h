#pragma once

#include <vector>

#include "kernels/norms.h"
#include "kernels/reductions.h"
#include "ops/row_wise.h"

namespace sepconv {

/// Layer normalisation over the channels of each pixel (Ba et al., 2016), or, if not `centred`, by
/// their root mean square (Zhang and Sennrich, 2019).
class LayerNormRows final : public RowWise {
 public:
  LayerNormRows(const ImageShape& shape, const float* weight, const float* bias, float epsilon,
                bool centred)
      : RowWise(shape, shape),
        weight_(weight, weight + shape.channels),
        bias_(bias, bias + shape.channels),
        epsilon_(epsilon),
        centred_(centred) {}

  std::string describe() const override { return centred_ ? "layer norm" : "rms norm"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    const auto norm = centred_ ? kernels_->layer_norm : kernels_->rms_norm;
    norm(x, weight_.data(), bias_.data(), epsilon_, y, pixels(), channels());
  }
  double flops_each() const override { return centred_ ? 7 : 5; }

  std::vector<float> weight_, bias_;
  float epsilon_;
  bool centred_;
  const NormKernels* kernels_ = &norm_kernels();
};

/// Each pixel divided by its Euclidean norm over the channels, or by `least` where that is more.
class NormalizeRows final : public RowWise {
 public:
  NormalizeRows(const ImageShape& shape, float least) : RowWise(shape, shape), least_(least) {}

  std::string describe() const override { return "normalize"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    kernels_->normalize(x, least_, y, pixels(), channels());
  }
  double flops_each() const override { return 3; }

  float least_;
  const NormKernels* kernels_ = &norm_kernels();
};

/// Global response normalisation as a factor for each channel (Woo et al., "ConvNeXt V2", 2023,
/// equation 3): with g the channel's norm over all positions, 1 + weight · g / (mean g + epsilon).
class ResponseScaleRows final : public RowOp {
 public:
  ResponseScaleRows(const ImageShape& input, const float* weight, float epsilon)
      : RowOp(input, {1, 1, input.channels}),
        weight_(weight, weight + input.channels),
        epsilon_(epsilon),
        kernels_(&reduction_kernels()) {}

  RowRange input_rows(RowRange) const override { return {0, input().height}; }
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* second, float* const* y,
                std::byte* workspace) const override;
  double flops() const override {
    return 2.0 * static_cast<double>(input().height * input().row_floats());
  }
  std::string describe() const override { return "response scale"; }

 private:
  std::vector<float> weight_;
  float epsilon_;
  const ReductionKernels* kernels_;
};

}  // namespace sepconv
