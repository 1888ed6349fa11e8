#pragma once

#include <memory>
#include <vector>

#include "ops/row_op.h"
#include "ops/window.h"

namespace sepconv {

/// Transposed convolution as one convolution of stride 1 for each phase of the output: rows that
/// are equal modulo the stride read the same taps, and so do columns. No product is with a zero
/// that was put between pixels.
class TransposedConvRows final : public RowOp {
 public:
  /// `window` is the forward convolution's; weight [output.channels][input.channels / groups]
  /// [rows.size][columns.size], bias [output.channels] or null.
  TransposedConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                     std::int64_t groups, const float* weight, const float* bias,
                     const Activation& activation);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* second, float* const* y,
                std::byte* workspace) const override;
  std::size_t weight_bytes() const override;
  void write_past_caches() override;
  double flops() const override;
  std::string describe() const override;

 private:
  /// Output rows `row`, `row` + stride, … and columns likewise.
  struct Phase {
    std::int64_t row, column;
    std::shared_ptr<RowOp> op;
  };

  /// Of a phase's own rows, those that lie in `out`.
  RowRange rows_of(const Phase& phase, RowRange out) const;
  std::int64_t phase_rows(std::int64_t rows) const;

  Window2d window_;
  std::vector<Phase> phases_;
};

}  // namespace sepconv
