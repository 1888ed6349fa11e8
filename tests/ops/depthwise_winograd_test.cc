// Depthwise convolution whose neighbouring outputs share products: its own bound against nested
// loops in double, values that it would harm, and that splitting rows changes no bit.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "ops/depthwise_rows.h"
#include "support/reference.h"
#include "support/row_ops.h"
#include "support/targets.h"

namespace sepconv {
namespace {

struct Problem {
  ImageShape input, output;
  Window2d window;
  std::vector<float> x, weight, bias;

  Problem(const ImageShape& in, std::int64_t rows, std::int64_t columns, std::int64_t pad,
          std::mt19937& random)
      : input(in),
        output{in.height + 2 * pad - rows + 1, in.width + 2 * pad - columns + 1, in.channels},
        window{{rows, 1, 1, pad}, {columns, 1, 1, pad}},
        x(to_size(in.height * in.row_floats())),
        weight(to_size(in.channels * window.taps())),
        bias(to_size(in.channels)) {
    for (auto* v : {&x, &weight, &bias}) {
      testing::fill(v->data(), static_cast<std::int64_t>(v->size()), random);
    }
  }
  DepthwiseRows2d op(const Epilogue& e = {}, ErrorBound bound = ErrorBound::kNetwork) const {
    return {input, output, window, {weight.data(), bias.data()}, e, bound};
  }
  double pixel(std::int64_t h, std::int64_t w, std::int64_t c) const {
    const bool inside = h >= 0 && h < input.height && w >= 0 && w < input.width;
    return inside ? double{x[to_size((h * input.width + w) * input.channels + c)]} : 0;
  }
  double tap(std::int64_t c, std::int64_t u, std::int64_t v) const {
    return double{weight[to_size((c * window.rows.size + u) * window.columns.size + v)]};
  }
};

double exact(const Problem& p, std::int64_t i, std::int64_t j, std::int64_t c) {
  double sum = double{p.bias[to_size(c)]};
  for (std::int64_t u = 0; u < p.window.rows.size; ++u)
    for (std::int64_t v = 0; v < p.window.columns.size; ++v)
      sum += p.pixel(i + u - p.window.rows.pad, j + v - p.window.columns.pad, c) * p.tap(c, u, v);
  return sum;
}

// What one piece of a row of taps g adds up for a pair's first or second output, in absolute
// values, from columns d on.
double size_of_piece(const double* g, std::int64_t taps, const double* d, bool second) {
  const auto mag = [](double v) { return std::abs(v); };
  const double g0 = mag(g[0]), g1 = mag(g[1]), g2 = taps == 3 ? mag(g[2]) : 0;
  const double d0 = mag(d[0]), d1 = mag(d[1]), d2 = mag(d[2]), d3 = taps == 3 ? mag(d[3]) : 0;
  if (taps == 2) return d1 * (g0 + g1) + (second ? (d1 + d2) * g1 : (d0 + d1) * g0);
  return (d1 + d2) * (g0 + g1 + g2) + (second ? (d1 + d3) * g2 : (d0 + d2) * g0);
}

// Of docs/numerics.md: every value, weight and sum rounded once, at the size of what is added up.
double bound(const Problem& p, std::int64_t i, std::int64_t j, std::int64_t c) {
  const std::int64_t rows = p.window.rows.size, columns = p.window.columns.size;
  const ShortFilters filters(columns);
  double sum = std::abs(double{p.bias[to_size(c)]});
  for (std::int64_t u = 0; u < rows; ++u) {
    std::vector<double> g, d;
    for (std::int64_t v = 0; v < columns; ++v) g.push_back(p.tap(c, u, v));
    for (std::int64_t v = 0; v <= columns; ++v) {
      d.push_back(p.pixel(i + u - p.window.rows.pad, j - j % 2 + v - p.window.columns.pad, c));
    }
    for (std::int64_t v = 0; v < columns;) {
      const std::int64_t taps = v < 3 * filters.threes ? 3 : 2;
      sum += size_of_piece(g.data() + v, taps, d.data() + v, j % 2 == 1);
      v += taps;
    }
  }
  return static_cast<double>(rows * (filters.threes + filters.twos) + 7) * 0x1p-24 * sum;
}

class DepthwiseWinogradTest : public testing::EachTargetTrading {
 protected:
  static void expect_used(const RowOp& op) {
    EXPECT_NE(op.describe().find("winograd"), std::string::npos) << op.describe();
  }

  std::mt19937 random{7};
};

void expect_within_bound(const Problem& p, ActivationKind kind) {
  const Epilogue e{Activation(kind)};
  const DepthwiseRows2d op = p.op(e);
  ASSERT_NE(op.describe().find("winograd"), std::string::npos) << op.describe();
  const auto y = testing::run_pieces(op, p.x, nullptr, 5);
  std::size_t n = 0;
  for (std::int64_t i = 0; i < p.output.height; ++i)
    for (std::int64_t j = 0; j < p.output.width; ++j)
      for (std::int64_t c = 0; c < p.output.channels; ++c, ++n) {
        const double expected = testing::activated(kind, exact(p, i, j, c)).first;
        ASSERT_NEAR(y[n], expected, bound(p, i, j, c) + 8 * 0x1p-23 * std::abs(expected))
            << op.describe() << " at " << i << ", " << j << ", " << c;
      }
}

// Every size of window that a row of taps can be cut for, and widths that leave half a pair.
TEST_P(DepthwiseWinogradTest, IsWithinItsBound) {
  for (const std::int64_t size : {7, 8, 9, 10, 11, 13}) {
    for (const std::int64_t width : {40, 41, 42, 43}) {
      expect_within_bound(Problem({5, width, 20}, size, size, size / 2, random),
                          ActivationKind::kNone);
    }
  }
}

TEST_P(DepthwiseWinogradTest, WindowsNeedNotBeSquare) {
  for (const auto& [rows, columns] : {std::pair{1, 9}, {2, 8}, {3, 12}, {9, 7}}) {
    expect_within_bound(Problem({12, 61, 20}, rows, columns, 0, random), ActivationKind::kNone);
    expect_within_bound(Problem({12, 60, 20}, rows, columns, 1, random), ActivationKind::kNone);
  }
}

TEST_P(DepthwiseWinogradTest, FinishesAsAskedFor) {
  for (const ActivationKind kind :
       {ActivationKind::kRelu, ActivationKind::kRelu6, ActivationKind::kSilu}) {
    for (const std::int64_t size : {7, 9}) {
      expect_within_bound(Problem({9, 34, 32}, size, size, size / 2, random), kind);
    }
  }
}

TEST_P(DepthwiseWinogradTest, SplittingChangesNoBit) {
  for (const std::int64_t size : {7, 8, 9}) {
    const Problem p({13, 43, 64}, size, size, size / 2, random);
    const DepthwiseRows2d op = p.op();
    expect_used(op);
    const auto whole = testing::run_pieces(op, p.x, nullptr, p.output.height);
    for (const std::int64_t step : {1, 2, 3, 5}) {
      EXPECT_EQ(testing::run_pieces(op, p.x, nullptr, step), whole) << size << ", " << step;
    }
    EXPECT_EQ(testing::run_pieces(op, p.x, nullptr, 4, true), whole) << size;
  }
}

// They may reach the other output of their pair, and nothing else.
TEST_P(DepthwiseWinogradTest, NonFiniteValuesPass) {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Problem p({9, 40, 32}, 7, 7, 3, random);
    p.x[to_size((4 * 40 + 17) * 32 + 5)] = value;
    const DepthwiseRows2d op = p.op(Epilogue(Activation(ActivationKind::kRelu6)));
    expect_used(op);
    const auto y = testing::run_pieces(op, p.x, nullptr, 9);
    for (std::int64_t i = 0; i < 9; ++i)
      for (std::int64_t j = 0; j < 40; ++j)
        for (std::int64_t c = 0; c < 32; ++c) {
          const float at = y[to_size((i * 40 + j) * 32 + c)];
          const bool near = c == 5 && i >= 1 && i <= 7 && j >= 14 && j <= 21;
          if (!near) {
            ASSERT_TRUE(std::isfinite(at)) << i << ", " << j << ", " << c;
          } else if (std::isnan(value) && j <= 20) {
            ASSERT_TRUE(std::isnan(at)) << i << ", " << j;
          }
        }
  }
}

// Weights that copy values, those that are not finite, and what is not to be used in networks.
TEST_P(DepthwiseWinogradTest, IsNotUsedWhereItWouldHarm) {
  const Problem p({9, 40, 32}, 7, 7, 3, random);
  const auto winograd = [](const DepthwiseRows2d& op) {
    return op.describe().find("winograd") != std::string::npos;
  };
  EXPECT_TRUE(winograd(p.op()));
  EXPECT_FALSE(winograd(p.op({}, ErrorBound::kElement)));
  set_paired_products(false);
  EXPECT_FALSE(winograd(p.op()));
  set_paired_products(true);
  Problem copies = p;
  for (std::size_t i = 0; i < copies.weight.size(); ++i) copies.weight[i] = i % 49 == 24 ? 1 : 0;
  EXPECT_FALSE(winograd(copies.op()));
  Problem infinite = p;
  infinite.weight[100] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(winograd(infinite.op()));
}

INSTANTIATE_TEST_SUITE_P(Targets, DepthwiseWinogradTest,
                         ::testing::ValuesIn(testing::built_targets()), testing::target_name);

}  // namespace
}  // namespace sepconv
