#pragma once

#include "kernels/vector_math.h"
#include "ops/row_op.h"
#include "ops/window.h"
#include "sepconv/ops.h"

namespace sepconv {

/// Max or average over windows in NHWC; a window as large as the image makes a global pool.
class PoolRows final : public RowOp {
 public:
  PoolRows(const ImageShape& input, const ImageShape& output, const Window2d& window, Pool kind,
           bool count_include_pad);

  RowRange input_rows(RowRange out) const override;
  std::size_t workspace_bytes(std::int64_t rows) const override;
  void run_rows(RowRange out, const InputRows& x, const float* const* residual, float* const* y,
                std::byte* workspace) const override;
  bool can_write_slice() const override { return true; }
  double flops() const override;
  std::string describe() const override;

 private:
  bool averages_rows() const;
  void pool(const float* const* runs, std::size_t count, float scale, float* y,
            std::size_t floats) const;
  void pool_line(const float* line, std::int64_t rows, const float** runs, float* y) const;

  Window2d window_;
  Pool kind_;
  bool count_include_pad_;
  const VectorMathKernels* kernels_;
};

}  // namespace sepconv
