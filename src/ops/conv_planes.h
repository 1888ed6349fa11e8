#pragma once

#include <vector>

#include "kernels/gemm.h"
#include "ops/arguments.h"
#include "ops/op_impl.h"

namespace sepconv {

/// Pointwise convolution in NCHW: the same microkernel with the roles swapped. The weights are the
/// rows of A; panels of B are some pixels of the input, copied into a buffer that stays in L1 or
/// L2.
struct ConvPlanes final : Op::Impl {
  /// Whether a convolution is one at every pixel, and has so few products, or so large images, that
  /// turning its input and output between NCHW and NHWC would take a twentieth of their time.
  static bool pays(const ConvGeometry& g, std::int64_t out_channels);

  ConvPlanes(ConvArguments a, const Conv2dOptions& options);

  std::size_t workspace_bytes(int threads) const override;
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override;
  double flops() const override;

 private:
  struct Image;

  std::size_t thread_bytes() const;
  void run_block(const Image& image, std::int64_t group, std::size_t first, float* panels) const;

  ConvArguments a_;
  Epilogue epilogue_;
  const GemmKernels* kernels_;
  std::size_t depth_;  ///< products per output element
  std::size_t block_;  ///< panels that are gathered together
  std::size_t rows_;   ///< output channels that a panel is multiplied with in a call
  std::vector<float> bias_;
};

}  // namespace sepconv
