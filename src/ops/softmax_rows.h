#pragma once

#include "kernels/vector_math.h"
#include "ops/row_wise.h"

namespace sepconv {

/// Softmax over the channels of each pixel.
class SoftmaxRows final : public RowWise {
 public:
  explicit SoftmaxRows(const ImageShape& shape) : RowWise(shape, shape) {}

  std::string describe() const override { return "softmax"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    for (std::size_t p = 0; p < pixels(); ++p) {
      kernels_->softmax(x + p * channels(), y + p * channels(), channels());
    }
  }
  double flops_each() const override { return 5; }

  const VectorMathKernels* kernels_ = &vector_math_kernels();
};

}  // namespace sepconv
