#include "base/sizes.h"
#include "ops/arguments.h"
#include "ops/chain_op.h"
#include "ops/depthwise_planes.h"
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

std::shared_ptr<const Op::Impl> gradient_op(const ConvArguments& a, Layout layout) {
  const bool depthwise = a.groups > 1 && a.weight.shape()[0] == a.groups && a.groups == a.input[1];
  if (layout == Layout::kNCHW && depthwise) return depthwise_planes_gradient(a);
  const Tensor weight = transposed(a.weight, a.input[1], a.groups);
  auto rows = std::make_shared<TransposedConvRows>(a.output_image(), a.input_image(), a.window,
                                                   a.groups, weight.data(), nullptr, Activation());
  if (layout == Layout::kNHWC && outgrows_caches(a.input, a.output)) rows->write_past_caches();
  Chain chain({{std::move(rows), Chain::kInput, Chain::kNone}});
  return std::make_shared<ChainOp>(a.output, a.input, layout, false, std::move(chain));
}

}  // namespace

Conv2dInputGradient::Conv2dInputGradient(const Shape& input, const TensorView& weight,
                                         const Conv2dOptions& options, std::int64_t groups,
                                         Layout layout)
    : Op(gradient_op(conv_arguments(input, weight, {}, options, groups), layout)) {}

}  // namespace sepconv
