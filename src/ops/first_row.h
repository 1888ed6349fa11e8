#pragma once

#include <algorithm>

#include "ops/row_op.h"

namespace sepconv {

/// The first row of an image, alone: a class token, where rows are tokens.
class FirstRow final : public RowOp {
 public:
  explicit FirstRow(const ImageShape& input) : RowOp(input, {1, input.width, input.channels}) {}

  RowRange input_rows(RowRange) const override { return {0, 1}; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    std::copy_n(x.row[-x.first], input().row_floats(), y[0]);
  }
  double flops() const override { return 0; }
  std::string describe() const override { return "first row"; }
};

}  // namespace sepconv
