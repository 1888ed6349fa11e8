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

std::shared_ptr<const Op::Impl> linear_op(const Shape& input, const TensorView& weight,
                                          const TensorView& bias, const Activation& activation) {
  check(input.rank() == 2, "x: shape is {}, expected [N, in]", to_string(input));
  const Shape& w = weight.shape();
  check(w.rank() == 2, "weight: shape is {}, expected [out, in]", to_string(w));
  Conv2dOptions options;
  options.activation = activation;
  const TensorView four(weight.data(), {w[0], w[1], 1, 1},
                        {weight.stride(0), weight.stride(1), 1, 1}, weight.dtype());
  const Shape pixels{1, input[1], std::max<std::int64_t>(input[0], 1), 1};
  const ConvArguments a = conv_arguments(pixels, four, bias, options, 1);
  Chain chain({{conv_row_op(a, options)}});
  return std::make_shared<LinearOp>(input, Shape{input[0], w[0]}, std::move(chain));
}

Linear::Linear(const Shape& input, const TensorView& weight, const TensorView& bias,
               Activation activation)
    : Op(linear_op(input, weight, bias, activation)) {}

}  // namespace sepconv
