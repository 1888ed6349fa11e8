#pragma once

#include <vector>

#include "kernels/vector_math.h"
#include "ops/row_op.h"

namespace sepconv {

/// Every pixel times one vector of channels, the second operand: squeeze-excite's scale.
class ScaleRows final : public RowOp {
 public:
  explicit ScaleRows(const ImageShape& shape)
      : RowOp(shape, shape), kernels_(&vector_math_kernels()) {}

  RowRange input_rows(RowRange out) const override { return out; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  ImageShape operand() const override { return {1, 1, input().channels}; }
  void run_rows(RowRange out, const InputRows& x, const float* const* second, float* const* y,
                std::byte*) const override {
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      const std::int64_t i = r - out.begin;
      kernels_->scale_channels(x.row[r - x.first], second[i], y[i],
                               static_cast<std::size_t>(input().width),
                               static_cast<std::size_t>(input().channels));
    }
  }
  double flops() const override {
    return static_cast<double>(input().height * input().row_floats());
  }
  std::string describe() const override { return "scale"; }

 private:
  const VectorMathKernels* kernels_;
};

/// activation(x · scale + shift) by channel: a batch norm that no layer absorbed.
class AffineRows final : public RowOp {
 public:
  AffineRows(const ImageShape& shape, std::vector<float> scale, std::vector<float> shift,
             const Epilogue& epilogue)
      : RowOp(shape, shape),
        scale_(std::move(scale)),
        shift_(std::move(shift)),
        epilogue_(epilogue),
        kernels_(&vector_math_kernels()) {}

  RowRange input_rows(RowRange out) const override { return out; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      kernels_->affine(epilogue_, x.row[r - x.first], scale_.data(), shift_.data(),
                       y[r - out.begin], static_cast<std::size_t>(input().width),
                       static_cast<std::size_t>(input().channels));
    }
  }
  double flops() const override {
    return 2.0 * static_cast<double>(input().height * input().row_floats());
  }
  std::string describe() const override { return "scale and shift"; }

 private:
  std::vector<float> scale_, shift_;
  Epilogue epilogue_;
  const VectorMathKernels* kernels_;
};

}  // namespace sepconv
