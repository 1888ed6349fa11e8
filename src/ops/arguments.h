#pragma once

#include <memory>

#include "ops/error_bound.h"
#include "ops/packed_weights.h"
#include "ops/row_op.h"
#include "ops/window.h"
#include "sepconv/ops.h"

namespace sepconv {

/// A convolution whose arguments were checked.
struct ConvGeometry {
  Shape input, output;
  Window2d window;
  std::int64_t groups = 1;

  ImageShape input_image() const { return {input[2], input[3], input[1]}; }
  ImageShape output_image() const { return {output[2], output[3], output[1]}; }
};

/// The same with weights of its own.
struct ConvArguments : ConvGeometry {
  Tensor weight;  ///< dense [Cout, C / groups, kh, kw]
  Tensor bias;    ///< dense [Cout], or rank 0 if there is none

  const float* bias_data() const { return bias.shape().rank() ? bias.data() : nullptr; }
};

/// Throws ArgumentError or TypeError, naming the argument, unless everything fits.
ConvGeometry conv_geometry(const Shape& input, const TensorView& weight, const TensorView& bias,
                           const Conv2dOptions& options, std::int64_t groups);
/// The same, with copies of weight and bias.
ConvArguments conv_arguments(const Shape& input, const TensorView& weight, const TensorView& bias,
                             const Conv2dOptions& options, std::int64_t groups);

/// Throws ArgumentError or TypeError, naming the argument, unless the view is dense float32 memory
/// of that shape and layout.
void check_view(const char* name, const TensorView& view, const Shape& shape, Layout layout);
/// Throws ArgumentError unless a workspace is large enough and aligned.
void check_workspace(std::span<std::byte> workspace, std::size_t bytes);

/// Output size of a window along both axes, checked to be at least 1 (or the input to be empty).
Shape window_output(const Shape& input, std::int64_t channels, Size2d kernel, Size2d stride,
                    const Padding& padding, Size2d dilation);

/// As a row op for NHWC: the depthwise scheme where each group has one input channel, GEMM
/// otherwise, or, where it pays and the bound allows it, Winograd's.
std::shared_ptr<RowOp> conv_row_op(const ConvGeometry& g, const LayerWeights& weights,
                                   const Conv2dOptions& options,
                                   ErrorBound bound = ErrorBound::kElement);
/// A 1×1 convolution in a network whose input rows have a scale.
std::shared_ptr<RowOp> scaled_conv_row_op(const ConvGeometry& g, const LayerWeights& weights,
                                          const Conv2dOptions& options);
std::shared_ptr<RowOp> conv_row_op(const ConvArguments& a, const Conv2dOptions& options);

}  // namespace sepconv
