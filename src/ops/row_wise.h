#pragma once

#include "ops/row_op.h"

namespace sepconv {

/// A row op whose output rows each come from the input row of the same place.
class RowWise : public RowOp {
 public:
  using RowOp::RowOp;

  RowRange input_rows(RowRange out) const final { return out; }
  std::size_t workspace_bytes(std::int64_t) const final { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const* second, float* const* y,
                std::byte*) const final {
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      const std::int64_t i = r - out.begin;
      run_row(x.row[r - x.first], second ? second[i] : nullptr, y[i]);
    }
  }
  double flops() const final {
    return flops_each() * static_cast<double>(input().height * input().row_floats());
  }

 protected:
  /// `second`: a row of the second operand, or null.
  virtual void run_row(const float* x, const float* second, float* y) const = 0;
  /// For one input element.
  virtual double flops_each() const = 0;

  std::size_t pixels() const { return static_cast<std::size_t>(input().width); }
  std::size_t channels() const { return static_cast<std::size_t>(input().channels); }
};

}  // namespace sepconv
