#pragma once

#include "kernels/vector_math.h"
#include "ops/row_op.h"

namespace sepconv {

/// Softmax over the channels of each pixel.
class SoftmaxRows final : public RowOp {
 public:
  explicit SoftmaxRows(const ImageShape& shape)
      : RowOp(shape, shape), kernels_(&vector_math_kernels()) {}

  RowRange input_rows(RowRange out) const override { return out; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    const std::int64_t channels = input().channels;
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      for (std::int64_t p = 0; p < input().row_floats(); p += channels) {
        kernels_->softmax(x.row[r - x.first] + p, y[r - out.begin] + p,
                          static_cast<std::size_t>(channels));
      }
    }
  }
  double flops() const override {
    return 5.0 * static_cast<double>(input().height * input().row_floats());
  }
  std::string describe() const override { return "softmax"; }

 private:
  const VectorMathKernels* kernels_;
};

}  // namespace sepconv
