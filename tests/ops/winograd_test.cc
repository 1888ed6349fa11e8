// Winograd's convolution: its own rounding bound against nested loops in double, edges, and that
// splitting rows changes no bit.

#include "ops/winograd_rows.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "support/reference.h"
#include "support/row_ops.h"
#include "support/targets.h"

namespace sepconv {
namespace {

constexpr WinogradSize kSizes[] = {{2, 3}, {4, 3}, {2, 5}};

struct Problem {
  WinogradSize size;
  ImageShape input, output;
  Window2d window;
  std::vector<float> x, weight, bias, residual;

  Problem(WinogradSize size_, std::int64_t height, std::int64_t width, std::int64_t in,
          std::int64_t out, std::int64_t pad, std::mt19937& random, Size2d dilation = 1)
      : size(size_),
        input{height, width, in},
        output{height + 2 * pad - (taps() - 1) * dilation.height,
               width + 2 * pad - (taps() - 1) * dilation.width, out},
        window{{taps(), 1, dilation.height, pad}, {taps(), 1, dilation.width, pad}},
        x(static_cast<std::size_t>(height * width * in)),
        weight(static_cast<std::size_t>(taps() * taps() * in * out)),
        bias(static_cast<std::size_t>(out)),
        residual(static_cast<std::size_t>(output.height * output.row_floats())) {
    for (auto* v : {&x, &weight, &bias, &residual}) {
      testing::fill(v->data(), static_cast<std::int64_t>(v->size()), random);
    }
  }
  WinogradRows op(const Epilogue& e = {}) const {
    return {size, input, output, window, {weight.data(), bias.data()}, e};
  }
  std::int64_t taps() const { return static_cast<std::int64_t>(size.taps); }
  double pixel(std::int64_t h, std::int64_t w, std::int64_t c) const {
    const bool inside = h >= 0 && h < input.height && w >= 0 && w < input.width;
    return inside ? static_cast<double>(
                        x[static_cast<std::size_t>((h * input.width + w) * input.channels + c)])
                  : 0.0;
  }
  double tap(std::int64_t o, std::int64_t c, std::int64_t u, std::int64_t v) const {
    return static_cast<double>(
        weight[static_cast<std::size_t>(((o * input.channels + c) * taps() + u) * taps() + v)]);
  }
};

using Matrix = std::vector<std::vector<double>>;

// Toom and Cook's matrices of a size in absolute values, from its points alone: the input's, the
// weights' and the output's.
struct Transforms {
  Matrix input, weight, output;

  explicit Transforms(WinogradSize s) {
    const double root = std::sqrt(0.5);
    std::vector<double> points{0, 1, -1};
    if (s.points() == 6) points = {0, root, -root, 2 * root, -2 * root};
    const std::size_t n = s.points();
    input.assign(n, std::vector<double>(n));
    weight.assign(n, std::vector<double>(s.taps));
    output.assign(s.outputs, std::vector<double>(n));
    for (std::size_t p = 0; p < n; ++p) {
      // The product of (x − q) over the other points, by powers of x.
      std::vector<double> others{1};
      double distances = 1;
      for (std::size_t q = 0; q + 1 < n; ++q) {
        if (q == p) continue;
        others.insert(others.begin(), 0);
        for (std::size_t i = 0; i + 1 < others.size(); ++i) others[i] -= points[q] * others[i + 1];
        if (p + 1 < n) distances *= points[p] - points[q];
      }
      for (std::size_t i = 0; i < others.size(); ++i) input[p][i] = std::abs(others[i]);
      const auto power = [&](std::size_t i, std::size_t last) {
        if (p + 1 < n) return std::pow(std::abs(points[p]), static_cast<double>(i));
        return i == last ? 1.0 : 0.0;
      };
      for (std::size_t i = 0; i < s.taps; ++i)
        weight[p][i] = power(i, s.taps - 1) / std::abs(distances);
      for (std::size_t i = 0; i < s.outputs; ++i) output[i][p] = power(i, s.outputs - 1);
    }
  }
};

// Σ over channels of Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A in absolute values: what rounding errors are a
// multiple of.
class Magnitudes {
 public:
  explicit Magnitudes(const Problem& problem) : p_(problem), t_(problem.size) {
    const std::int64_t taps = p_.taps();
    for (std::int64_t o = 0; o < p_.output.channels; ++o) {
      const auto tap = [&](std::int64_t c, std::int64_t a, std::int64_t b) {
        return p_.tap(o, c, a, b);
      };
      weights_.push_back(transformed(t_.weight, taps, tap));
    }
  }

  double operator()(std::int64_t o, std::int64_t i, std::int64_t j) {
    const Window &rows = p_.window.rows, &columns = p_.window.columns;
    const std::vector<double>& inputs = tile(start(i, rows), start(j, columns));
    const std::vector<double>& weights = weights_[static_cast<std::size_t>(o)];
    const std::vector<double>&down = t_.output[place(i, rows)],
          &along = t_.output[place(j, columns)];
    double sum = std::abs(static_cast<double>(p_.bias[static_cast<std::size_t>(o)]));
    std::size_t at = 0;
    for (std::int64_t c = 0; c < p_.input.channels; ++c)
      for (const double r : down)
        for (const double s : along) {
          sum += r * s * inputs[at] * weights[at];
          ++at;
        }
    return sum;
  }

 private:
  // An output's place in its tile, and where that tile's inputs begin.
  std::size_t place(std::int64_t at, const Window& w) const {
    return static_cast<std::size_t>(at / w.dilation) % p_.size.outputs;
  }
  std::int64_t start(std::int64_t at, const Window& w) const {
    return at - w.dilation * static_cast<std::int64_t>(place(at, w)) - w.pad;
  }

  // |M||v||M|ᵀ of every channel's `size` × `size` values v.
  template <class Value>
  std::vector<double> transformed(const Matrix& m, std::int64_t size, const Value& value) const {
    std::vector<double> all;
    for (std::int64_t c = 0; c < p_.input.channels; ++c)
      for (const std::vector<double>& r : m)
        for (const std::vector<double>& s : m) {
          double sum = 0;
          for (std::int64_t a = 0; a < size; ++a)
            for (std::int64_t b = 0; b < size; ++b)
              sum += r[static_cast<std::size_t>(a)] * s[static_cast<std::size_t>(b)] *
                     std::abs(value(c, a, b));
          all.push_back(sum);
        }
    return all;
  }

  // The inputs that begin there, transformed; many outputs share a tile.
  const std::vector<double>& tile(std::int64_t top, std::int64_t left) {
    std::vector<double>& values = tiles_[{top, left}];
    if (values.empty()) {
      const auto pixel = [&](std::int64_t c, std::int64_t a, std::int64_t b) {
        return p_.pixel(top + p_.window.rows.dilation * a, left + p_.window.columns.dilation * b,
                        c);
      };
      values = transformed(t_.input, static_cast<std::int64_t>(p_.size.points()), pixel);
    }
    return values;
  }

  const Problem& p_;
  Transforms t_;
  std::vector<std::vector<double>> weights_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<double>> tiles_;
};

double exact(const Problem& p, std::int64_t o, std::int64_t i, std::int64_t j) {
  double sum = static_cast<double>(p.bias[static_cast<std::size_t>(o)]);
  for (std::int64_t c = 0; c < p.input.channels; ++c)
    for (std::int64_t u = 0; u < p.taps(); ++u)
      for (std::int64_t v = 0; v < p.taps(); ++v)
        sum += p.pixel(i + u * p.window.rows.dilation - p.window.rows.pad,
                       j + v * p.window.columns.dilation - p.window.columns.pad, c) *
               p.tap(o, c, u, v);
  return sum;
}

class WinogradTest : public testing::EachTarget {};

void expect_within_bound(const Problem& p) {
  Magnitudes magnitude(p);
  const std::int64_t in = p.input.channels, out = p.output.channels;
  const std::vector<float> y = testing::run_pieces(p.op(), p.x, nullptr, p.output.height);
  for (std::int64_t i = 0; i < p.output.height; ++i)
    for (std::int64_t j = 0; j < p.output.width; ++j)
      for (std::int64_t o = 0; o < out; ++o) {
        const float got = y[static_cast<std::size_t>((i * p.output.width + j) * out + o)];
        // Of a product's way through both transforms, 12 roundings besides its channels' sum.
        const double limit = 2.0 * static_cast<double>(in + 12) * 0x1p-24 * magnitude(o, i, j);
        ASSERT_NEAR(static_cast<double>(got), exact(p, o, i, j), limit) << p.taps();
      }
}

TEST_P(WinogradTest, StaysWithinItsBound) {
  std::mt19937 random(1);
  for (const WinogradSize size : kSizes) {
    for (const auto& [height, width, in, out, pad] : {std::array<std::int64_t, 5>{1, 1, 3, 5, 2},
                                                      {2, 7, 16, 8, 2},
                                                      {9, 6, 33, 40, 1},
                                                      {8, 8, 64, 17, 0},
                                                      {5, 5, 5, 5, 0},
                                                      {5, 12, 20, 33, 3}}) {
      expect_within_bound({size, height, width, in, out, pad, random});
    }
  }
}

TEST_P(WinogradTest, TilesOfDilatedWindowsLieWithinEachOther) {
  std::mt19937 random(5);
  for (const WinogradSize size : kSizes) {
    for (const Size2d dilation : {Size2d(2), Size2d(3, 1), Size2d(1, 2), Size2d(4, 5)}) {
      expect_within_bound({size, 21, 23, 17, 24, 3, random, dilation});
      expect_within_bound({size, 17, 21, 5, 9, 0, random, dilation});
    }
  }
}

TEST_P(WinogradTest, BitsDoNotDependOnHowRowsAreSplit) {
  std::mt19937 random(2);
  for (const WinogradSize size : kSizes) {
    for (const std::int64_t pad : {0, 1, 2, 4}) {
      const Size2d dilation = pad == 4 ? Size2d(2, 3) : Size2d(1);
      const Problem p(size, 11, 9, 20, 24, pad, random, dilation);
      for (const bool before : {false, true}) {
        Epilogue e;
        e.lo = 0;
        e.residual_first = before;
        const WinogradRows op = p.op(e);
        const std::vector<float> whole = testing::run_pieces(op, p.x, &p.residual, p.output.height);
        for (std::int64_t step : {1, 2, 3, 5})
          EXPECT_EQ(testing::run_pieces(op, p.x, &p.residual, step), whole);
      }
    }
  }
}

TEST_P(WinogradTest, BitsDoNotDependOnHowChannelsAreShared) {
  std::mt19937 random(4);
  for (const WinogradSize size : kSizes) {
    for (const Size2d dilation : {Size2d(1), Size2d(2)}) {
      const Problem p(size, 9, 11, 24, 112, dilation.width, random, dilation);
      for (const ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kSilu}) {
        for (const bool before : {false, true}) {
          Epilogue e{Activation(kind)};
          e.residual_first = before;
          const WinogradRows op = p.op(e);
          EXPECT_GT(op.shares(), 2);
          EXPECT_EQ(testing::run_pieces(op, p.x, &p.residual, 9, true),
                    testing::run_pieces(op, p.x, &p.residual, 9));
        }
      }
    }
  }
}

TEST_P(WinogradTest, FinishesLikeTheDirectKernel) {
  std::mt19937 random(3);
  for (const WinogradSize size : kSizes) {
    for (const Size2d dilation : {Size2d(1), Size2d(2, 3)}) {
      const Problem p(size, 7, 10, 40, 36, dilation.width, random, dilation);
      for (const ActivationKind kind : {ActivationKind::kNone, ActivationKind::kRelu6,
                                        ActivationKind::kSilu, ActivationKind::kGelu}) {
        for (const bool before : {false, true}) {
          Epilogue e{Activation(kind)};
          e.residual_first = before;
          const ConvRows direct(p.input, p.output, p.window, 1,
                                LayerWeights(p.weight.data(), p.bias.data()), e,
                                ErrorBound::kElement);
          const auto ours = testing::run_pieces(p.op(e), p.x, &p.residual, 4);
          const auto expected = testing::run_pieces(direct, p.x, &p.residual, 4);
          for (std::size_t i = 0; i < ours.size(); ++i) {
            // No activation's slope is above 1.13; sums of up to 1000 products of size-1 values.
            EXPECT_NEAR(ours[i], expected[i], 1e-3F) << i;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, WinogradTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

TEST(Winograd, TakesTheSizeThatSavesMost) {
  // Outputs along an edge of the tile chosen; 0 is the direct kernel.
  const auto best = [](std::int64_t size, std::int64_t in, std::int64_t out, Window w,
                       std::int64_t groups = 1) -> std::size_t {
    const ImageShape input{size, size, in}, output{size, size, out};
    const auto chosen = WinogradRows::best(input, output, {w, w}, groups);
    return chosen ? chosen->outputs : 0;
  };
  EXPECT_EQ(best(56, 64, 64, {3, 1, 1, 1}), 4);
  EXPECT_EQ(best(28, 128, 128, {3, 1, 1, 1}), 4);
  EXPECT_EQ(best(14, 256, 256, {3, 1, 1, 1}), 2);  // 36 matrices of weights take too long to read
  EXPECT_EQ(best(112, 32, 32, {3, 1, 1, 1}), 2);   // six points are not accurate enough
  EXPECT_EQ(best(35, 48, 64, {5, 1, 1, 2}), 2);
  EXPECT_EQ(best(35, 32, 64, {5, 1, 1, 2}), 0);
  EXPECT_EQ(best(4, 512, 512, {3, 1, 1, 1}), 0);
  EXPECT_EQ(best(56, 64, 64, {7, 1, 1, 3}), 0);
  EXPECT_EQ(best(14, 256, 256, {3, 2, 1, 1}), 0);
  EXPECT_EQ(best(28, 256, 256, {3, 1, 2, 2}), 4);
  EXPECT_EQ(best(28, 256, 256, {3, 1, 6, 6}), 2);    // 28 are three blocks of 12, or two of 24
  EXPECT_EQ(best(28, 256, 256, {3, 1, 12, 12}), 0);  // most taps are in the padding
  EXPECT_EQ(best(14, 256, 256, {3, 1, 1, 1}, 32), 0);
  EXPECT_EQ(best(112, 3, 32, {3, 1, 1, 1}), 0);
}

}  // namespace
}  // namespace sepconv
