#pragma once

#include "base/aligned.h"
#include "kernels/gemm.h"
#include "ops/op_impl.h"

namespace sepconv {

/// A number of matrices of each image, one below the other: a [N,K,matrices·M,1] times
/// b [N,L,matrices·K,1], or times the transposes of b [N,K,matrices·L,1]. Panels of b are packed
/// first, as all rows of a read them.
class MatrixProduct final : public Op::Impl {
 public:
  MatrixProduct(const Shape& a, const Shape& out, std::int64_t matrices, bool transposed);

  std::size_t workspace_bytes(int threads) const override;
  void run(const float* a, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override;
  double flops() const override;

 private:
  std::size_t panels() const;
  std::size_t sum_floats() const;
  void pack(const float* b, std::size_t panel, float* to) const;
  void multiply(const float* a, const float* panels, std::size_t rows, float* y, float* sums) const;

  bool transposed_;
  std::size_t matrices_;  ///< of all images
  std::size_t rows_, depth_, columns_;
  const GemmKernels* gemm_;
  AlignedArray<float> no_bias_;
};

}  // namespace sepconv
