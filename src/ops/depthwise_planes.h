#pragma once

#include <memory>
#include <vector>

#include "kernels/transpose.h"
#include "ops/arguments.h"
#include "ops/op_impl.h"
#include "ops/row_op.h"

namespace sepconv {

/// What is done to each channel on its own, in NCHW: a vector of channels at a time goes through an
/// op for NHWC, some rows turned into pixels before and back into planes after, all within L1 or
/// L2. With at least one whole vector of channels results have the bits of those in NHWC.
struct DepthwisePlanes final : Op::Impl {
  using Blocks = std::vector<std::unique_ptr<const RowOp>>;

  /// Block b is for the output channels from b · lanes on, as many as a vector has lanes, whether
  /// they exist or not. Output channel c reads input channel c / (output[1] / input[1]).
  DepthwisePlanes(const Shape& in, const Shape& out, Blocks blocks);

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
  Blocks blocks_;
  std::int64_t band_ = 1;       ///< output rows at a time
  std::int64_t ring_rows_ = 1;  ///< input rows that these need
  bool streams_ = false;        ///< past the caches, given memory that starts with a cache line
};

/// A depthwise convolution of any channel multiplier.
std::shared_ptr<const Op::Impl> depthwise_planes(const ConvArguments& a,
                                                 const Activation& activation);
/// From the gradient of a depthwise convolution's output to that of its input; without multiplier.
std::shared_ptr<const Op::Impl> depthwise_planes_gradient(const ConvArguments& a);

}  // namespace sepconv
