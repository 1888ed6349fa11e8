#include "base/check.h"
#include "ops/arguments.h"
#include "ops/chain.h"
#include "ops/factories.h"

namespace sepconv {

namespace {

// The rows of X are the pixels of one image a pixel wide, so that a batch shares each panel.
struct LinearOp final : Op::Impl {
  LinearOp(const Shape& in, const Shape& out, Chain c)
      : Impl(in, out, Layout::kNHWC, false), chain(std::move(c)) {}

  std::size_t workspace_bytes(int threads) const override { return chain.workspace_bytes(threads); }
  void run(const float* x, std::span<const float* const>, float* y, std::byte* workspace,
           const ThreadPool& pool) const override {
    chain.run(1, x, {}, y, workspace, pool);
  }
  std::string describe() const override {
    return "linear, " + chain.stages().front().op->describe();
  }
  double flops() const override { return chain.flops(); }

  Chain chain;
};

}  // namespace

std::shared_ptr<const Op::Impl> linear_op(const Shape& input, const Shape& weight,
                                          const LayerWeights& weights,
                                          const Activation& activation) {
  const std::int64_t pixels = std::max<std::int64_t>(input[0], 1);
  ConvGeometry g;
  g.input = {1, input[1], pixels, 1};
  g.output = {1, weight[0], pixels, 1};
  g.window = {{1, 1, 1, 0}, {1, 1, 1, 0}};
  Conv2dOptions options;
  options.activation = activation;
  Chain chain({{conv_row_op(g, weights, options)}});
  return std::make_shared<LinearOp>(input, Shape{input[0], weight[0]}, std::move(chain));
}

namespace {

std::shared_ptr<const Op::Impl> checked_linear_op(const Shape& input, const TensorView& weight,
                                                  const TensorView& bias,
                                                  const Activation& activation) {
  check(input.rank() == 2, "x: shape is {}, expected [N, in]", to_string(input));
  const Shape& w = weight.shape();
  check(w.rank() == 2, "weight: shape is {}, expected [out, in]", to_string(w));
  const TensorView four(weight.data(), {w[0], w[1], 1, 1},
                        {weight.stride(0), weight.stride(1), 1, 1}, weight.dtype());
  const ConvArguments a = conv_arguments({1, input[1], 1, 1}, four, bias, {}, 1);
  return linear_op(input, w, LayerWeights(a.weight.data(), a.bias_data()), activation);
}

}  // namespace

Linear::Linear(const Shape& input, const TensorView& weight, const TensorView& bias,
               Activation activation)
    : Op(checked_linear_op(input, weight, bias, activation)) {}

}  // namespace sepconv
