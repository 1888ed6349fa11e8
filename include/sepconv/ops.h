#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "sepconv/activation.h"
#include "sepconv/error.h"
#include "sepconv/tensor.h"
#include "sepconv/threads.h"

namespace sepconv {

/// A value for each axis: rows (height) and columns (width).
struct Size2d {
  std::int64_t height = 1, width = 1;
  Size2d() = default;
  Size2d(std::int64_t both) : height(both), width(both) {}  // NOLINT(google-explicit-constructor)
  Size2d(std::int64_t h, std::int64_t w) : height(h), width(w) {}
  bool operator==(const Size2d&) const = default;
};

/// Zeros added around an image, in pixels.
struct Padding {
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;
  Padding() = default;
  Padding(std::int64_t all) : Padding(all, all, all, all) {}  // NOLINT(google-explicit-constructor)
  Padding(std::int64_t t, std::int64_t b, std::int64_t l, std::int64_t r)
      : top(t), bottom(b), left(l), right(r) {}
  /// Output size = ceil(input / stride), the odd pixel going below and to the right: TensorFlow's
  /// "SAME", and PyTorch's "same" at stride 1.
  static Padding same(Size2d image, Size2d kernel, Size2d stride, Size2d dilation = 1);
  bool operator==(const Padding&) const = default;
};

/// How a convolution moves over its input and what it does to its result.
struct Conv2dOptions {
  Size2d stride = 1;
  Padding padding = 0;
  Size2d dilation = 1;
  Activation activation;
  /// The op adds a second tensor of the output's shape: after the activation, or before it.
  bool residual = false;
  bool residual_before_activation = false;
};

/// A number that the bits of n floats decide, to tell whether weights are still those that were
/// packed: another one if any single float changed, and by chance the same for other changes once
/// in 2^64. Not the same on every instruction set.
std::uint64_t fingerprint(const float* x, std::size_t n);

/// An operator built once for an input shape and run many times.
///
/// Packing, tiles and kernels are decided when it is built. It is immutable: threads may run it at
/// once, each with a workspace of its own. Neither run() nor what it calls allocates. The bits of
/// the result depend on the instruction set alone, not on the number of threads. Copies share the
/// op.
class Op {
 public:
  struct Impl;

  const Shape& input_shape() const;
  const Shape& output_shape() const;
  Layout layout() const;
  /// Bytes that run() needs with a pool of that many threads, on a 64-byte boundary.
  std::size_t workspace_bytes(int threads = 1) const;
  /// What runs, in a few words: "depthwise 3x3 slide 2x8".
  std::string describe() const;
  double flops() const;

  /// Computes y from x: dense float32 in layout(), of input_shape() and output_shape(). y may not
  /// overlap x. Throws ArgumentError or TypeError for anything else.
  void run(const TensorView& x, const TensorView& y, std::span<std::byte> workspace,
           const ThreadPool& pool = ThreadPool::single()) const;
  /// The same for an op built with a residual, which has output_shape() and layout().
  void run(const TensorView& x, const TensorView& residual, const TensorView& y,
           std::span<std::byte> workspace, const ThreadPool& pool = ThreadPool::single()) const;
  /// run() with an output made for this call and a workspace that is kept for the next ones
  /// (empty_cache()).
  Tensor operator()(const TensorView& x, const ThreadPool& pool = ThreadPool::single()) const;

 protected:
  explicit Op(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Convolution: Y[n,o,i,j] = b[o] + Σ X[n, c, i·s+u·d−p, j·s+v·d−p] · W[o,c,u,v], where c runs over
/// the channels of o's group. All ops below are this with fewer degrees of freedom.
class Conv2d : public Op {
 public:
  /// input [N,C,H,W]; weight [Cout, C/groups, kh, kw] float32, any strides; bias [Cout] or empty.
  /// Throws ArgumentError if shapes do not fit, an option is out of range or the output is empty.
  Conv2d(const Shape& input, const TensorView& weight, const TensorView& bias = {},
         const Conv2dOptions& options = {}, std::int64_t groups = 1, Layout layout = Layout::kNHWC);
};

/// Each channel filtered on its own: Y_c = X_c ∗ W_c, the spatial half of a separable convolution.
class DepthwiseConv2d : public Op {
 public:
  /// input [N,C,H,W]; weight [C·m, 1, kh, kw]: output channel q reads channel q / m.
  DepthwiseConv2d(const Shape& input, const TensorView& weight, const TensorView& bias = {},
                  const Conv2dOptions& options = {}, Layout layout = Layout::kNHWC);
};

/// A linear combination of channels at each position: the other half.
class PointwiseConv2d : public Op {
 public:
  /// input [N,C,H,W]; weight [Cout, C, 1, 1] or [Cout, C].
  PointwiseConv2d(const Shape& input, const TensorView& weight, const TensorView& bias = {},
                  const Conv2dOptions& options = {}, Layout layout = Layout::kNHWC);
};

/// Depthwise then pointwise, band by band: the tensor between them never exists as a whole.
class SeparableConv2d : public Op {
 public:
  /// `depthwise` holds stride, padding, dilation and activation of the first half; `activation` and
  /// the residual belong to the second. NCHW input is taken through NHWC in the workspace.
  SeparableConv2d(const Shape& input, const TensorView& depthwise_weight,
                  const TensorView& pointwise_weight, const TensorView& depthwise_bias = {},
                  const TensorView& pointwise_bias = {}, const Conv2dOptions& depthwise = {},
                  const Conv2dOptions& pointwise = {}, Layout layout = Layout::kNHWC);
};

/// Y = X·Wᵀ + b for X [N, in], W [out, in].
class Linear : public Op {
 public:
  Linear(const Shape& input, const TensorView& weight, const TensorView& bias = {},
         Activation activation = {});
};

enum class Pool { kMax, kAverage };

struct Pool2dOptions {
  Size2d kernel = 1;
  Size2d stride = 1;
  Padding padding = 0;
  bool count_include_pad = true;  ///< average: divide by the whole window (PyTorch's default)
};

/// Max or average over windows. Padding never wins a maximum.
class Pool2d : public Op {
 public:
  Pool2d(const Shape& input, Pool kind, const Pool2dOptions& options,
         Layout layout = Layout::kNHWC);
};

/// Average over all positions: [N,C,H,W] → [N,C,1,1].
class GlobalAveragePool : public Op {
 public:
  explicit GlobalAveragePool(const Shape& input, Layout layout = Layout::kNHWC);
};

/// softmax over the last axis of [N, classes].
class Softmax : public Op {
 public:
  explicit Softmax(const Shape& input);
};

}  // namespace sepconv
