#include "ops/input_gradient.h"

#include "base/sizes.h"
#include "ops/chain_op.h"
#include "ops/conv_rows.h"
#include "ops/depthwise_planes.h"
#include "ops/depthwise_transposed_rows.h"
#include "ops/transposed_conv_rows.h"
#include "sepconv/gradients.h"

namespace sepconv {

namespace {

// [Cout, C/groups, taps] to [C, Cout/groups, taps].
Tensor transposed(const Tensor& weight, std::int64_t channels, std::int64_t groups) {
  const Shape& w = weight.shape();
  const std::int64_t in = channels / groups, out = w[0] / groups, taps = w[2] * w[3];
  Tensor result({channels, out, w[2], w[3]});
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t o = 0; o < out; ++o) {
      const float* from = weight.data() + (g * out + o) * in * taps;
      for (std::int64_t c = 0; c < in; ++c) {
        std::copy_n(from + c * taps, taps, result.data() + ((g * in + c) * out + o) * taps);
      }
    }
  }
  return result;
}

// Of a pointwise convolution that takes every pixel: another one, whose weights lie transposed.
std::shared_ptr<RowOp> pointwise_gradient(const ConvArguments& a) {
  const auto in = to_size(a.input[1]), out = to_size(a.output[1]);
  return std::make_shared<ConvRows>(
      a.output_image(), a.input_image(), a.window,
      PackedPanels{pack_transposed_gemm_weights(a.weight.data(), in, out)}, Epilogue());
}

std::shared_ptr<RowOp> any_gradient(const ConvArguments& a) {
  const bool depthwise = a.groups > 1 && a.groups == a.input[1] && a.groups == a.output[1];
  if (depthwise) {
    return depthwise_gradient_rows(a.output_image(), a.input_image(), a.window, a.weight.data());
  }
  const Tensor weight = transposed(a.weight, a.input[1], a.groups);
  return std::make_shared<TransposedConvRows>(a.output_image(), a.input_image(), a.window, a.groups,
                                              weight.data(), nullptr, Activation());
}

bool takes_every_pixel(const ConvArguments& a) {
  const auto plain = [](const Window& w) { return w.size == 1 && w.stride == 1 && w.pad == 0; };
  return a.groups == 1 && plain(a.window.rows) && plain(a.window.columns) &&
         a.input_image().height == a.output_image().height &&
         a.input_image().width == a.output_image().width;
}

}  // namespace

std::unique_ptr<RowOp> depthwise_gradient_rows(const ImageShape& input, const ImageShape& output,
                                               const Window2d& window, const float* weight) {
  if (DepthwiseTransposedRows::pays(window)) {
    return std::make_unique<DepthwiseTransposedRows>(input, output, window, weight);
  }
  return std::make_unique<TransposedConvRows>(input, output, window, input.channels, weight,
                                              nullptr, Activation());
}

std::shared_ptr<RowOp> input_gradient_rows(const ConvArguments& a, Layout layout) {
  std::shared_ptr<RowOp> rows = takes_every_pixel(a) ? pointwise_gradient(a) : any_gradient(a);
  // NCHW copies them once more.
  if (layout == Layout::kNHWC && outgrows_caches(a.input, a.output)) rows->write_past_caches();
  return rows;
}

std::shared_ptr<const Op::Impl> input_gradient_op(const ConvArguments& a, Layout layout) {
  const bool depthwise = a.groups > 1 && a.weight.shape()[0] == a.groups && a.groups == a.input[1];
  if (layout == Layout::kNCHW && depthwise) return depthwise_planes_gradient(a);
  return input_gradient_op(a, layout, input_gradient_rows(a, layout));
}

std::shared_ptr<const Op::Impl> input_gradient_op(const ConvArguments& a, Layout layout,
                                                  std::shared_ptr<RowOp> rows) {
  Chain chain({{std::move(rows), Chain::kInput, Chain::kNone}});
  return std::make_shared<ChainOp>(a.output, a.input, layout, false, std::move(chain));
}

Conv2dInputGradient::Conv2dInputGradient(const Shape& input, const TensorView& weight,
                                         const Conv2dOptions& options, std::int64_t groups,
                                         Layout layout)
    : Op(input_gradient_op(conv_arguments(input, weight, {}, options, groups), layout)) {}

}  // namespace sepconv
