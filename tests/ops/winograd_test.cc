// Winograd's convolution: its own rounding bound against nested loops in double, edges, and that
// splitting rows changes no bit.

#include "ops/winograd_rows.h"

#include <gtest/gtest.h>

#include <array>

#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

using Square = std::array<std::array<double, 4>, 4>;

struct Problem {
  ImageShape input, output;
  Window2d window;
  std::vector<float> x, weight, bias, residual;

  Problem(std::int64_t height, std::int64_t width, std::int64_t in, std::int64_t out,
          std::int64_t pad, std::mt19937& random)
      : input{height, width, in},
        output{height + 2 * pad - 2, width + 2 * pad - 2, out},
        window{{3, 1, 1, pad}, {3, 1, 1, pad}},
        x(static_cast<std::size_t>(height * width * in)),
        weight(static_cast<std::size_t>(9 * in * out)),
        bias(static_cast<std::size_t>(out)),
        residual(static_cast<std::size_t>(output.height * output.row_floats())) {
    for (auto* v : {&x, &weight, &bias, &residual}) {
      testing::fill(v->data(), static_cast<std::int64_t>(v->size()), random);
    }
  }
  WinogradRows op(const Epilogue& e = {}) const {
    return {input, output, window, {weight.data(), bias.data()}, e};
  }
  double pixel(std::int64_t h, std::int64_t w, std::int64_t c) const {
    const bool inside = h >= 0 && h < input.height && w >= 0 && w < input.width;
    return inside ? static_cast<double>(
                        x[static_cast<std::size_t>((h * input.width + w) * input.channels + c)])
                  : 0.0;
  }
  double tap(std::int64_t o, std::int64_t c, std::int64_t u, std::int64_t v) const {
    return static_cast<double>(
        weight[static_cast<std::size_t>(((o * input.channels + c) * 3 + u) * 3 + v)]);
  }
};

// Runs the rows in pieces of `step`, all channels together or share by share.
std::vector<float> run(const RowOp& op, const std::vector<float>& x,
                       const std::vector<float>* residual, std::int64_t step,
                       bool by_shares = false) {
  const ImageShape &in = op.input(), &out = op.output();
  std::vector<float> y(static_cast<std::size_t>(out.height * out.row_floats()), -7.0F);
  const auto workspace = make_aligned<std::byte>(op.workspace_bytes(step));
  for (std::int64_t b = 0; b < out.height; b += step) {
    const RowRange rows{b, std::min(out.height, b + step)}, needs = op.input_rows(rows);
    std::vector<const float*> from, add;
    std::vector<float*> to;
    for (std::int64_t r = needs.begin; r < needs.end; ++r)
      from.push_back(x.data() + r * in.row_floats());
    for (std::int64_t r = rows.begin; r < rows.end; ++r) {
      to.push_back(y.data() + r * out.row_floats());
      if (residual) add.push_back(residual->data() + r * out.row_floats());
    }
    const float* const* second = residual ? add.data() : nullptr;
    const InputRows in_rows{from.data(), needs.begin};
    if (!by_shares) op.run_rows(rows, in_rows, second, to.data(), workspace.get());
    for (std::int64_t s = by_shares ? op.shares() - 1 : -1; s >= 0; --s) {
      op.run_shares({s, s + 1}, rows, in_rows, second, to.data(), workspace.get());
    }
  }
  return y;
}

// Σ over channels of Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A in absolute values: what rounding errors are a
// multiple of.
double magnitude(const Problem& p, std::int64_t o, std::int64_t i, std::int64_t j) {
  const std::int64_t top = i / 2 * 2 - p.window.rows.pad, left = j / 2 * 2 - p.window.columns.pad;
  constexpr double kInput[4][4] = {{1, 0, 1, 0}, {0, 1, 1, 0}, {0, 1, 1, 0}, {0, 1, 0, 1}};
  constexpr double kWeight[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}, {0, 0, 1}};
  constexpr double kOutput[2][4] = {{1, 1, 1, 0}, {0, 1, 1, 1}};
  double sum = std::abs(static_cast<double>(p.bias[static_cast<std::size_t>(o)]));
  for (std::int64_t c = 0; c < p.input.channels; ++c) {
    for (int r = 0; r < 4; ++r) {
      for (int s = 0; s < 4; ++s) {
        double d = 0, g = 0;
        for (int a = 0; a < 4; ++a)
          for (int b = 0; b < 4; ++b)
            d += kInput[r][a] * kInput[s][b] * std::abs(p.pixel(top + a, left + b, c));
        for (int a = 0; a < 3; ++a)
          for (int b = 0; b < 3; ++b)
            g += kWeight[r][a] * kWeight[s][b] * std::abs(p.tap(o, c, a, b));
        sum += kOutput[i % 2][r] * kOutput[j % 2][s] * d * g;
      }
    }
  }
  return sum;
}

double exact(const Problem& p, std::int64_t o, std::int64_t i, std::int64_t j) {
  double sum = static_cast<double>(p.bias[static_cast<std::size_t>(o)]);
  for (std::int64_t c = 0; c < p.input.channels; ++c)
    for (std::int64_t u = 0; u < 3; ++u)
      for (std::int64_t v = 0; v < 3; ++v)
        sum +=
            p.pixel(i + u - p.window.rows.pad, j + v - p.window.columns.pad, c) * p.tap(o, c, u, v);
  return sum;
}

class WinogradTest : public testing::EachTarget {};

TEST_P(WinogradTest, StaysWithinItsBound) {
  std::mt19937 random(1);
  for (const auto& [height, width, in, out, pad] : {std::array<std::int64_t, 5>{1, 1, 3, 5, 1},
                                                    {2, 7, 16, 8, 1},
                                                    {9, 6, 33, 40, 1},
                                                    {8, 8, 64, 17, 0},
                                                    {3, 3, 5, 5, 0},
                                                    {5, 12, 20, 33, 2}}) {
    const Problem p(height, width, in, out, pad, random);
    const std::vector<float> y = run(p.op(), p.x, nullptr, p.output.height);
    for (std::int64_t i = 0; i < p.output.height; ++i)
      for (std::int64_t j = 0; j < p.output.width; ++j)
        for (std::int64_t o = 0; o < out; ++o) {
          const float got = y[static_cast<std::size_t>((i * p.output.width + j) * out + o)];
          // Of a product's way through both transforms, 12 roundings besides its channels' sum.
          const double limit = 2.0 * static_cast<double>(in + 12) * 0x1p-24 * magnitude(p, o, i, j);
          EXPECT_NEAR(static_cast<double>(got), exact(p, o, i, j), limit);
        }
  }
}

TEST_P(WinogradTest, BitsDoNotDependOnHowRowsAreSplit) {
  std::mt19937 random(2);
  for (std::int64_t pad : {0, 1, 2}) {
    const Problem p(11, 9, 20, 24, pad, random);
    for (const bool before : {false, true}) {
      Epilogue e;
      e.lo = 0;
      e.residual_first = before;
      const WinogradRows op = p.op(e);
      const std::vector<float> whole = run(op, p.x, &p.residual, p.output.height);
      for (std::int64_t step : {1, 2, 3, 5}) EXPECT_EQ(run(op, p.x, &p.residual, step), whole);
    }
  }
}

TEST_P(WinogradTest, BitsDoNotDependOnHowChannelsAreShared) {
  std::mt19937 random(4);
  const Problem p(9, 7, 24, 112, 1, random);
  for (const ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kSilu}) {
    for (const bool before : {false, true}) {
      Epilogue e{Activation(kind)};
      e.residual_first = before;
      const WinogradRows op = p.op(e);
      EXPECT_GT(op.shares(), 2);
      EXPECT_EQ(run(op, p.x, &p.residual, 9, true), run(op, p.x, &p.residual, 9));
    }
  }
}

TEST_P(WinogradTest, FinishesLikeTheDirectKernel) {
  std::mt19937 random(3);
  const Problem p(7, 10, 40, 36, 1, random);
  for (const ActivationKind kind : {ActivationKind::kNone, ActivationKind::kRelu6,
                                    ActivationKind::kSilu, ActivationKind::kGelu}) {
    for (const bool before : {false, true}) {
      Epilogue e{Activation(kind)};
      e.residual_first = before;
      const ConvRows direct(p.input, p.output, p.window, 1,
                            LayerWeights(p.weight.data(), p.bias.data()), e);
      const auto ours = run(p.op(e), p.x, &p.residual, 4);
      const auto expected = run(direct, p.x, &p.residual, 4);
      for (std::size_t i = 0; i < ours.size(); ++i) {
        // No activation's slope is above 1.13; sums of 360 products of size-1 values.
        EXPECT_NEAR(ours[i], expected[i], 2e-4F) << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, WinogradTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

TEST(Winograd, IsForDenseThreeByThreeWithWorkEnough) {
  const auto pays = [](std::int64_t size, std::int64_t in, std::int64_t out, Window w,
                       std::int64_t groups) {
    const ImageShape input{size, size, in}, output{size, size, out};
    return WinogradRows::pays(input, output, {w, w}, groups);
  };
  EXPECT_TRUE(pays(14, 256, 256, {3, 1, 1, 1}, 1));
  EXPECT_FALSE(pays(7, 512, 512, {3, 1, 1, 1}, 1));
  EXPECT_FALSE(pays(14, 256, 256, {3, 2, 1, 1}, 1));
  EXPECT_FALSE(pays(14, 256, 256, {3, 1, 2, 2}, 1));
  EXPECT_FALSE(pays(14, 256, 256, {5, 1, 1, 2}, 1));
  EXPECT_FALSE(pays(14, 256, 256, {3, 1, 1, 1}, 32));
  EXPECT_FALSE(pays(112, 3, 32, {3, 1, 1, 1}, 1));
}

}  // namespace
}  // namespace sepconv
