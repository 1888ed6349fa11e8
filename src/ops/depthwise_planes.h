#pragma once

#include <memory>
#include <vector>

#include "kernels/transpose.h"
#include "ops/arguments.h"
#include "ops/depthwise_rows.h"
#include "ops/op_impl.h"

namespace sepconv {

/// Depthwise convolution in NCHW: a vector of channels at a time goes through the kernels for NHWC,
/// some rows turned into pixels before and back into planes after, all within L1 or L2. With at
/// least one whole vector of channels results have the bits of those in NHWC.
struct DepthwisePlanes final : Op::Impl {
  DepthwisePlanes(const ConvArguments& a, const Activation& activation);

  std::size_t workspace_bytes(int threads) const override;
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override;
  double flops() const override;

 private:
  struct Ring;

  std::int64_t rows_for(std::int64_t band) const;
  std::size_t thread_bytes() const;
  void fill(Ring& ring, const float* const* planes, RowRange rows) const;
  void run_block(std::size_t block, const float* x, float* y, std::byte* workspace) const;

  const TransposeKernels* kernels_ = &transpose_kernels();
  std::vector<std::unique_ptr<const DepthwiseRows2d>> blocks_;  ///< of kernels_->lanes channels
  std::int64_t band_ = 1;                                       ///< output rows at a time
  std::int64_t ring_rows_ = 1;                                  ///< input rows that these need
};

}  // namespace sepconv
