#pragma once

#include "base/aligned.h"
#include "base/sizes.h"
#include "kernels/depthwise_backward.h"
#include "ops/arguments.h"
#include "sepconv/threads.h"

namespace sepconv {

/// Both gradients of a depthwise convolution in NHWC in one pass over X and dY, where there is a
/// kernel for that.
class DepthwiseBackwardPass {
 public:
  /// 3×3, stride 1, undilated, a whole vector of channels at least.
  static bool takes(const ConvGeometry& g, Layout layout);

  explicit DepthwiseBackwardPass(const ConvArguments& a);

  std::size_t workspace_bytes() const;
  /// dW by images, then over these, in an order that no number of threads changes.
  void run(const float* x, const float* dy, float* dx, float* dw, std::byte* workspace,
           const ThreadPool& pool) const;

 private:
  struct Images;

  std::size_t images() const { return to_size(geometry_.input[0]); }
  std::size_t channels() const { return to_size(geometry_.input[1]); }
  std::size_t blocks() const { return divide_up(channels(), lanes_); }
  std::size_t zero_floats() const;
  std::size_t partial_floats() const;
  void run_blocks(std::size_t image, RowRange blocks, const Images& images) const;
  bool streams(const float* dx) const;

  ConvGeometry geometry_;
  DepthwiseBackwardFunction kernel_ = depthwise_backward();
  std::size_t lanes_;
  AlignedArray<float> weights_;  ///< [blocks][taps][lanes]
};

}  // namespace sepconv
