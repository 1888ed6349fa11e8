#pragma once

#include <memory>
#include <span>
#include <string>

#include "sepconv/ops.h"

namespace sepconv {

/// dL/dX of a convolution from dL/dY: run() takes the output's gradient to the input's.
///
/// Stride 1 is a convolution with the taps turned around; a larger stride is one such convolution
/// for each phase of the input's rows and columns, so that nothing is scattered.
class Conv2dInputGradient : public Op {
 public:
  /// The forward convolution's parameters: input [N,C,H,W]; weight [Cout, C/groups, kh, kw]
  /// float32; of the options, stride, padding and dilation. input_shape() is the forward output's
  /// shape, output_shape() the forward input's. Throws ArgumentError like Conv2d.
  Conv2dInputGradient(const Shape& input, const TensorView& weight,
                      const Conv2dOptions& options = {}, std::int64_t groups = 1,
                      Layout layout = Layout::kNHWC);
};

/// dL/dW of a depthwise or pointwise convolution from X and dL/dY: a sum over all images and
/// positions, in an order that no number of threads changes. Immutable and copied like an Op.
class Conv2dWeightGradient {
 public:
  struct Impl;

  /// The forward convolution's parameters: input [N,C,H,W]; weight either [C, 1, kh, kw] with C
  /// groups, or [Cout, C, 1, 1] with one group, stride 1 and no padding. Throws ArgumentError for
  /// other weights, and like Conv2d.
  Conv2dWeightGradient(const Shape& input, const Shape& weight, const Conv2dOptions& options,
                       std::int64_t groups, Layout layout = Layout::kNHWC);

  const Shape& input_shape() const;
  const Shape& output_shape() const;  ///< of the forward convolution
  const Shape& weight_shape() const;
  Layout layout() const;
  std::size_t workspace_bytes(int threads = 1) const;
  std::string describe() const;
  double flops() const;

  /// x and dy are dense float32 in layout(); dw is dense [Cout, C/groups, kh, kw]. Throws
  /// ArgumentError or TypeError for anything else.
  void run(const TensorView& x, const TensorView& dy, const TensorView& dw,
           std::span<std::byte> workspace, const ThreadPool& pool = ThreadPool::single()) const;

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Both gradients in one pass, where that saves reading dL/dY twice. dL/dX has the bits of the
/// class above; dL/dW may be added up in another order, which no number of threads changes either.
/// Immutable and copied like an Op.
class Conv2dGradients {
 public:
  struct Impl;

  /// As Conv2dWeightGradient's, with the weight's values; throws ArgumentError like it.
  Conv2dGradients(const Shape& input, const TensorView& weight, const Conv2dOptions& options,
                  std::int64_t groups, Layout layout = Layout::kNHWC);

  std::size_t workspace_bytes(int threads = 1) const;

  /// x, dy and dx are dense float32 in the layout; dw is dense [Cout, C/groups, kh, kw]. Throws
  /// ArgumentError or TypeError for anything else.
  void run(const TensorView& x, const TensorView& dy, const TensorView& dx, const TensorView& dw,
           std::span<std::byte> workspace, const ThreadPool& pool = ThreadPool::single()) const;

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Back through an activation to what a convolution added up, and to its bias, in one pass:
/// dL/dZ = dL/dY · activation'(Z) and dL/dbias, its sum by channel, in an order that no number of
/// threads changes. Immutable and copied like an Op.
class ActivationGradient {
 public:
  struct Impl;

  /// Images [N,C,H,W] in `layout`. Throws ArgumentError for a shape of other than four dimensions.
  ActivationGradient(const Shape& shape, const Activation& activation,
                     Layout layout = Layout::kNHWC);

  std::size_t workspace_bytes(int threads = 1) const;

  /// z is what went into the activation, or, for relu, relu6 and clamps, what came out; dz may be
  /// dy. Without an activation there is only dL/dbias: z and dz are not looked at. All dense
  /// float32, dbias [C]. Throws ArgumentError or TypeError for anything else.
  void run(const TensorView& z, const TensorView& dy, const TensorView& dz, const TensorView& dbias,
           std::span<std::byte> workspace, const ThreadPool& pool = ThreadPool::single()) const;

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace sepconv
