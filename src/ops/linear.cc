#include <algorithm>
#include <memory>
#include <vector>

#include "base/aligned.h"
#include "base/check.h"
#include "base/sizes.h"
#include "ops/arguments.h"
#include "ops/conv_rows.h"
#include "ops/factories.h"

namespace sepconv {

namespace {

// The rows of X are the pixels of one image a pixel wide. The columns of the result are shared out
// among threads, so that each reads its own weights and no others.
struct LinearOp final : Op::Impl {
  LinearOp(const Shape& in, const Shape& out, const LayerWeights& weights, const Epilogue& epilogue,
           ErrorBound bound);

  std::size_t workspace_bytes(int) const override { return parts.size() * part_bytes(); }
  void run(const float* x, std::span<const float* const>, float* y, std::byte* workspace,
           const ThreadPool& pool) const override {
    pool.parallel_for(parts.size(), [&](std::size_t i) {
      run_part(parts[i], x, y, workspace + i * part_bytes());
    });
  }
  std::string describe() const override { return "linear, " + parts.front().op->describe(); }
  double flops() const override { return 2.0 * static_cast<double>(input.elements() * output[1]); }

 private:
  // Rows that pass before the weights are read again.
  static constexpr std::int64_t kBand = 64;

  struct Part {
    std::unique_ptr<const ConvRows> op;
    std::int64_t column;
  };

  std::int64_t band() const { return std::clamp<std::int64_t>(input[0], 1, kBand); }
  std::size_t part_bytes() const {
    return 2 * align_up(to_size(band()) * sizeof(float*)) +
           align_up(parts.front().op->workspace_bytes(band()));
  }
  void run_part(const Part& part, const float* x, float* y, std::byte* workspace) const;

  std::vector<Part> parts;  // the first one is the widest
};

LinearOp::LinearOp(const Shape& in, const Shape& out, const LayerWeights& weights,
                   const Epilogue& epilogue, ErrorBound bound)
    : Impl(in, out, Layout::kNHWC, false) {
  // Less is not worth waking a thread for.
  constexpr std::int64_t kLeastFloats = 1 << 15, kMostParts = 8;
  const auto wide = static_cast<std::int64_t>(gemm_kernels().columns);
  const std::int64_t panels = (out[1] + wide - 1) / wide;
  const std::int64_t worth = std::clamp<std::int64_t>(in[1] * out[1] / kLeastFloats, 1, kMostParts);
  const std::int64_t each = (panels + worth - 1) / worth * wide;
  const PackedPanels packed = pack_panels({.pixels = to_size(band()),
                                           .groups = 1,
                                           .columns = to_size(out[1]),
                                           .taps = 1,
                                           .k = to_size(in[1])},
                                          weights, bound);
  for (std::int64_t column = 0; column < out[1]; column += each) {
    auto op = std::make_unique<ConvRows>(ImageShape{band(), 1, in[1]},
                                         ImageShape{band(), 1, std::min(each, out[1] - column)},
                                         Window2d{{1, 1, 1, 0}, {1, 1, 1, 0}},
                                         PackedPanels{.all = packed.all,
                                                      .weight = to_size(column * in[1]),
                                                      .column = to_size(column),
                                                      .followed = column + each < out[1],
                                                      .pairs = packed.pairs},
                                         epilogue);
    op->write_slice_of(out[1]);
    parts.push_back({std::move(op), column});
  }
}

void LinearOp::run_part(const Part& part, const float* x, float* y, std::byte* workspace) const {
  Carver carver(workspace);
  const float** in = carver.take<const float*>(to_size(band()));
  float** out = carver.take<float*>(to_size(band()));
  for (std::int64_t first = 0; first < input[0]; first += band()) {
    const std::int64_t rows = std::min(band(), input[0] - first);
    for (std::int64_t i = 0; i < rows; ++i) {
      in[i] = x + (first + i) * input[1];
      out[i] = y + (first + i) * output[1] + part.column;
    }
    part.op->run_rows({0, rows}, {in, 0}, nullptr, out, carver.rest());
  }
}

}  // namespace

std::shared_ptr<const Op::Impl> linear_op(const Shape& input, const Shape& weight,
                                          const LayerWeights& weights, const Activation& activation,
                                          ErrorBound bound) {
  return std::make_shared<LinearOp>(input, Shape{input[0], weight[0]}, weights,
                                    Epilogue(activation), bound);
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
  return linear_op(input, w, LayerWeights(a.weight.data(), a.bias_data()), activation,
                   ErrorBound::kElement);
}

}  // namespace

Linear::Linear(const Shape& input, const TensorView& weight, const TensorView& bias,
               Activation activation)
    : Op(checked_linear_op(input, weight, bias, activation)) {}

}  // namespace sepconv
