#pragma once

#include "kernels/vector_math.h"
#include "ops/row_op.h"

namespace sepconv {

/// activation(x), or activation(x + residual) where the op adds, for what no convolution absorbed.
class ElementwiseRows final : public RowOp {
 public:
  ElementwiseRows(const ImageShape& shape, const Epilogue& epilogue, bool adds)
      : RowOp(shape, shape), epilogue_(epilogue), adds_(adds), kernels_(&vector_math_kernels()) {}

  RowRange input_rows(RowRange out) const override { return out; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const* residual, float* const* y,
                std::byte*) const override {
    const std::size_t n = static_cast<std::size_t>(input().row_floats());
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      const std::int64_t i = r - out.begin;
      const float* row = x.row[r - x.first];
      if (adds_) {
        kernels_->add(epilogue_, row, residual[i], y[i], n);
      } else {
        kernels_->activate(epilogue_, row, y[i], n);
      }
    }
  }
  double flops() const override {
    return static_cast<double>(input().height * input().row_floats());
  }
  std::string describe() const override { return adds_ ? "add" : "activation"; }

 private:
  Epilogue epilogue_;
  bool adds_;
  const VectorMathKernels* kernels_;
};

}  // namespace sepconv
