#include "base/check.h"
#include "ops/arguments.h"
#include "ops/chain_op.h"
#include "ops/conv_planes.h"
#include "ops/depthwise_planes.h"

namespace sepconv {

namespace {

std::shared_ptr<const Op::Impl> conv_op(ConvArguments a, const Conv2dOptions& options,
                                        Layout layout) {
  const bool depthwise = a.groups == a.input[1] && a.groups > 1 && !options.residual;
  if (layout == Layout::kNCHW && depthwise) return depthwise_planes(a, options.activation);
  if (layout == Layout::kNHWC || !ConvPlanes::pays(a, a.output[1])) {
    const std::shared_ptr<RowOp> op = conv_row_op(a, options);
    if (layout == Layout::kNHWC && outgrows_caches(a.input, a.output)) op->write_past_caches();
    Chain chain({{op, Chain::kInput, options.residual ? Chain::side(0) : Chain::kNone}});
    return std::make_shared<ChainOp>(a.input, a.output, layout, options.residual, std::move(chain));
  }
  return std::make_shared<ConvPlanes>(std::move(a), options);
}

ConvArguments depthwise_arguments(const Shape& input, const TensorView& weight,
                                  const TensorView& bias, const Conv2dOptions& options) {
  check(!options.residual, "residual: a depthwise convolution takes none");
  return conv_arguments(input, weight, bias, options, input.rank() == 4 ? input[1] : 1);
}

ConvArguments pointwise_arguments(const Shape& input, const TensorView& weight,
                                  const TensorView& bias, const Conv2dOptions& options) {
  const Shape& w = weight.shape();
  const bool fits = (w.rank() == 4 && w[2] == 1 && w[3] == 1) || w.rank() == 2;
  check(fits, "weight: shape is {}, expected [Cout, Cin, 1, 1] or [Cout, Cin]", to_string(w));
  const TensorView four(weight.data(), {w[0], w[1], 1, 1},
                        {weight.stride(0), weight.stride(1), 1, 1}, weight.dtype());
  return conv_arguments(input, four, bias, options, 1);
}

}  // namespace

Conv2d::Conv2d(const Shape& input, const TensorView& weight, const TensorView& bias,
               const Conv2dOptions& options, std::int64_t groups, Layout layout)
    : Op(conv_op(conv_arguments(input, weight, bias, options, groups), options, layout)) {}

DepthwiseConv2d::DepthwiseConv2d(const Shape& input, const TensorView& weight,
                                 const TensorView& bias, const Conv2dOptions& options,
                                 Layout layout)
    : Op(conv_op(depthwise_arguments(input, weight, bias, options), options, layout)) {}

PointwiseConv2d::PointwiseConv2d(const Shape& input, const TensorView& weight,
                                 const TensorView& bias, const Conv2dOptions& options,
                                 Layout layout)
    : Op(conv_op(pointwise_arguments(input, weight, bias, options), options, layout)) {}

namespace {

std::shared_ptr<const Op::Impl> separable_op(const Shape& input, const TensorView& depthwise_weight,
                                             const TensorView& pointwise_weight,
                                             const TensorView& depthwise_bias,
                                             const TensorView& pointwise_bias,
                                             const Conv2dOptions& depthwise,
                                             const Conv2dOptions& pointwise, Layout layout) {
  const ConvArguments first =
      depthwise_arguments(input, depthwise_weight, depthwise_bias, depthwise);
  const ConvArguments second =
      pointwise_arguments(first.output, pointwise_weight, pointwise_bias, pointwise);
  Chain chain(
      {{conv_row_op(first, depthwise), Chain::kInput, Chain::kNone},
       {conv_row_op(second, pointwise), 0, pointwise.residual ? Chain::side(0) : Chain::kNone}});
  return std::make_shared<ChainOp>(input, second.output, layout, pointwise.residual,
                                   std::move(chain));
}

}  // namespace

SeparableConv2d::SeparableConv2d(const Shape& input, const TensorView& depthwise_weight,
                                 const TensorView& pointwise_weight,
                                 const TensorView& depthwise_bias, const TensorView& pointwise_bias,
                                 const Conv2dOptions& depthwise, const Conv2dOptions& pointwise,
                                 Layout layout)
    : Op(separable_op(input, depthwise_weight, pointwise_weight, depthwise_bias, pointwise_bias,
                      depthwise, pointwise, layout)) {}

}  // namespace sepconv
