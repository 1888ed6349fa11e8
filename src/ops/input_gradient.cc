#include <algorithm>

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

// Of a depthwise convolution of stride 1 that pads no more than its window needs: another one, with
// its taps turned around.
std::shared_ptr<const Op::Impl> turned_around(const ConvArguments& a) {
  ConvArguments turned{a, Tensor(a.weight.shape()), {}};
  std::swap(turned.input, turned.output);
  for (Window* w : {&turned.window.rows, &turned.window.columns}) w->pad = extent(*w) - 1 - w->pad;
  const std::int64_t taps = a.window.taps();
  for (std::int64_t c = 0; c < a.groups; ++c) {
    const float* from = a.weight.data() + c * taps;
    std::reverse_copy(from, from + taps, turned.weight.data() + c * taps);
  }
  return std::make_shared<DepthwisePlanes>(turned, Activation());
}

bool turns_around(const ConvArguments& a) {
  const auto fits = [](const Window& w) { return w.stride == 1 && w.pad < extent(w); };
  return a.groups > 1 && a.weight.shape()[0] == a.groups && a.weight.shape()[1] == 1 &&
         fits(a.window.rows) && fits(a.window.columns);
}

std::shared_ptr<const Op::Impl> gradient_op(const ConvArguments& a, Layout layout) {
  if (layout == Layout::kNCHW && turns_around(a)) return turned_around(a);
  const Tensor weight = transposed(a.weight, a.input[1], a.groups);
  auto rows = std::make_shared<TransposedConvRows>(a.output_image(), a.input_image(), a.window,
                                                   a.groups, weight.data(), nullptr, Activation());
  if (outgrows_caches(a.input, a.output)) rows->write_past_caches();
  Chain chain({{std::move(rows), Chain::kInput, Chain::kNone}});
  return std::make_shared<ChainOp>(a.output, a.input, layout, false, std::move(chain));
}

}  // namespace

Conv2dInputGradient::Conv2dInputGradient(const Shape& input, const TensorView& weight,
                                         const Conv2dOptions& options, std::int64_t groups,
                                         Layout layout)
    : Op(gradient_op(conv_arguments(input, weight, {}, options, groups), layout)) {}

}  // namespace sepconv
