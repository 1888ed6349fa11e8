#pragma once

#include <vector>

#include "kernels/reductions.h"
#include "ops/row_op.h"

namespace sepconv {

/// Another height and width: every row and every pixel a weighted sum of a few that follow each
/// other, rows first.
class ResizeRows final : public RowOp {
 public:
  struct Taps {
    std::int64_t first;
    std::vector<float> weights;
    bool operator==(const Taps&) const = default;
    bool copies() const { return weights.size() == 1 && weights[0] == 1; }
  };

  /// Taps for each output row and column.
  ResizeRows(const ImageShape& input, std::vector<Taps> rows, std::vector<Taps> columns);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* second, float* const* y,
                std::byte* workspace) const override;
  bool can_write_slice() const override { return true; }
  double flops() const override;
  std::string describe() const override;

 private:
  void resize_row(const float* from, float* to) const;

  std::vector<Taps> rows_, columns_;
  const ReductionKernels* kernels_;
};

}  // namespace sepconv
