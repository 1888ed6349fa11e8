#pragma once

#include "kernels/norms.h"
#include "ops/row_wise.h"

namespace sepconv {

/// Softmax over the channels of each pixel, or its logarithm.
class SoftmaxRows final : public RowWise {
 public:
  SoftmaxRows(const ImageShape& shape, bool logarithm)
      : RowWise(shape, shape), logarithm_(logarithm) {}

  std::string describe() const override { return logarithm_ ? "log softmax" : "softmax"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    const auto softmax = logarithm_ ? kernels_->log_softmax : kernels_->softmax;
    for (std::size_t p = 0; p < pixels(); ++p) {
      softmax(x + p * channels(), y + p * channels(), channels());
    }
  }
  double flops_each() const override { return 5; }

  bool logarithm_;
  const NormKernels* kernels_ = &norm_kernels();
};

}  // namespace sepconv
