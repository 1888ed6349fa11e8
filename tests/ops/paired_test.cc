// Products added in pairs: their own bound against nested loops in double, values that pairs would
// harm, and that splitting rows changes no bit.

#include "ops/paired_product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "base/cpu.h"
#include "ops/conv_rows.h"
#include "sepconv/models.h"
#include "sepconv/network.h"
#include "support/reference.h"
#include "support/row_ops.h"
#include "support/targets.h"

namespace sepconv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// A convolution without padding whose row of products is `depth()` long.
struct Problem {
  ImageShape input, output;
  Window2d window;
  std::vector<float> x, weight, bias, residual;

  Problem(std::int64_t height, std::int64_t width, std::int64_t in, std::int64_t out,
          std::int64_t kernel, std::int64_t stride, std::mt19937& random)
      : input{height, width, in},
        output{(height - kernel) / stride + 1, (width - kernel) / stride + 1, out},
        window{{kernel, stride, 1, 0}, {kernel, stride, 1, 0}},
        x(to_size(height * width * in)),
        weight(to_size(out * in * kernel * kernel)),
        bias(to_size(out)),
        residual(to_size(output.height * output.row_floats())) {
    for (auto* v : {&x, &weight, &bias, &residual}) {
      testing::fill(v->data(), static_cast<std::int64_t>(v->size()), random);
    }
    // Columns and rows of all sizes.
    for (std::size_t i = 0; i < weight.size(); ++i) {
      weight[i] *= std::exp2(static_cast<float>(i / to_size(depth()) % 7) - 3);
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] *= std::exp2(static_cast<float>(i / to_size(in) % 11) - 5);
    }
  }
  ConvRows op(const Epilogue& e = {}, ErrorBound bound = ErrorBound::kNetwork) const {
    return {input, output, window, 1, {weight.data(), bias.data()}, e, bound};
  }
  std::int64_t depth() const { return input.channels * window.taps(); }
  double product(std::int64_t o, std::int64_t i, std::int64_t j, std::int64_t k) const {
    return pixel(i, j, k) * tap(o, k);
  }
  double tap(std::int64_t o, std::int64_t k) const {
    return double{weight[to_size(o * depth() + k)]};
  }
  // The input that tap k of an output pixel reads.
  double pixel(std::int64_t i, std::int64_t j, std::int64_t k) const {
    const std::int64_t size = window.rows.size, taps = size * size, c = k / taps;
    const std::int64_t h = i * window.rows.stride + k % taps / size;
    const std::int64_t w = j * window.columns.stride + k % size;
    return double{x[to_size((h * input.width + w) * input.channels + c)]};
  }
};

/// Of docs/numerics.md: products' roundings, at the size of the row times that of the column.
double bound(const Problem& p, std::int64_t o, std::int64_t i, std::int64_t j) {
  double row = 0, column = 0;
  for (std::int64_t k = 0; k < p.depth(); ++k) {
    row += p.pixel(i, j, k) * p.pixel(i, j, k);
    column += p.tap(o, k) * p.tap(o, k);
  }
  const double n = static_cast<double>(p.depth());
  return (1.25 * n + 24) * 0x1p-23 * std::sqrt(row * column);
}

double exact(const Problem& p, std::int64_t o, std::int64_t i, std::int64_t j) {
  double sum = double{p.bias[to_size(o)]};
  for (std::int64_t k = 0; k < p.depth(); ++k) sum += p.product(o, i, j, k);
  return sum;
}

class PairedTest : public testing::EachTargetTrading {
 protected:
  void TearDown() override {
    assume_adders(std::nullopt);
    EachTargetTrading::TearDown();
  }
  static void expect_pairs(const RowOp& op) {
    EXPECT_NE(op.describe().find("paired"), std::string::npos) << op.describe();
  }

  std::mt19937 random{5};
};

void expect_within_bound(const Problem& p, const Epilogue& e, bool adds) {
  const ConvRows op = p.op(e);
  ASSERT_NE(op.describe().find("paired"), std::string::npos) << op.describe();
  const auto y = testing::run_pieces(op, p.x, adds ? &p.residual : nullptr, 3);
  std::size_t n = 0;
  for (std::int64_t i = 0; i < p.output.height; ++i)
    for (std::int64_t j = 0; j < p.output.width; ++j)
      for (std::int64_t o = 0; o < p.output.channels; ++o, ++n) {
        const double add = adds ? double{p.residual[n]} : 0, sum = exact(p, o, i, j);
        const double first = e.residual_first ? sum + add : sum;
        const double clamped = std::clamp(first, double{e.lo}, double{e.hi});
        const double expected = e.residual_first ? clamped : clamped + add;
        const double rest = 4 * 0x1p-24 * (std::abs(double{p.bias[to_size(o)]}) + std::abs(add));
        ASSERT_NEAR(y[n], expected, bound(p, o, i, j) + rest + 0x1p-23 * std::abs(expected))
            << "at " << i << ", " << j << ", " << o << " of depth " << p.depth();
      }
}

// Depths with every number of single products behind the triples, of one and of several parts;
// whole and partial panels of one vector and of two.
TEST_P(PairedTest, IsWithinItsBound) {
  for (const std::int64_t depth : {60, 61, 62, 63, 64, 65, 96, 290, 700}) {
    for (const std::int64_t out : {88, 96, 103, 144}) {
      expect_within_bound(Problem(7, 5, depth, out, 1, 1, random), {}, false);
    }
  }
}

TEST_P(PairedTest, FinishesAsAskedFor) {
  const Problem p(6, 9, 70, 100, 1, 1, random);
  for (const ActivationKind kind : {ActivationKind::kNone, ActivationKind::kRelu6}) {
    for (const bool first : {false, true}) {
      Epilogue e{Activation(kind)};
      e.residual_first = first;
      expect_within_bound(p, e, true);
      expect_within_bound(p, e, false);
    }
  }
}

TEST_P(PairedTest, JoinsTheTapsOfOtherKernels) {
  expect_within_bound(Problem(11, 12, 9, 96, 3, 1, random), {}, false);
  expect_within_bound(Problem(11, 12, 24, 96, 2, 2, random), {}, false);
}

// The floats of `count` channels from `first` on, of pixels of `channels`.
std::vector<float> slice(const std::vector<float>& x, std::int64_t channels, std::int64_t first,
                         std::int64_t count) {
  std::vector<float> part;
  for (std::size_t at = to_size(first); at < x.size(); at += to_size(channels)) {
    part.insert(part.end(), &x[at], &x[at] + count);
  }
  return part;
}

// Whatever rows and panels are computed together, those of several groups included.
TEST_P(PairedTest, AGroupGivesWhatItGivesAlone) {
  constexpr std::int64_t kGroups = 3, kOut = 96;
  for (const std::int64_t kernel : {1, 3}) {
    const std::int64_t in = kernel == 1 ? 70 : 16;
    const Problem p(9, 8, kGroups * in, kGroups * kOut, kernel, 1, random);
    const ConvRows op(p.input, p.output, p.window, kGroups, {p.weight.data(), p.bias.data()}, {},
                      ErrorBound::kNetwork);
    expect_pairs(op);
    const auto whole = testing::run_pieces(op, p.x, nullptr, 4),
               shares = testing::run_pieces(op, p.x, nullptr, 2, true);
    EXPECT_EQ(whole, shares);
    for (std::int64_t g = 0; g < kGroups; ++g) {
      const float* const weight = p.weight.data() + g * kOut * in * kernel * kernel;
      const ConvRows alone({p.input.height, p.input.width, in},
                           {p.output.height, p.output.width, kOut}, p.window, 1,
                           {weight, p.bias.data() + g * kOut}, {}, ErrorBound::kNetwork);
      expect_pairs(alone);
      EXPECT_EQ(testing::run_pieces(alone, slice(p.x, kGroups * in, g * in, in), nullptr, 4),
                slice(whole, kGroups * kOut, g * kOut, kOut));
    }
  }
}

TEST_P(PairedTest, CostlyActivationsFollow) {
  const Problem p(6, 9, 70, 100, 1, 1, random);
  const auto plain = testing::run_pieces(p.op(), p.x, nullptr, 6);
  for (const bool first : {false, true}) {
    Epilogue e{Activation(ActivationKind::kSilu)};
    e.residual_first = first;
    const auto silu = testing::run_pieces(p.op(e), p.x, &p.residual, 6);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      const double add = double{p.residual[i]}, v = double{plain[i]} + (first ? add : 0);
      const double expected = v / (1 + std::exp(-v)) + (first ? 0 : add);
      ASSERT_NEAR(silu[i], expected, 1e-6 * (std::abs(v) + std::abs(add)) + 1e-30);
    }
  }
}

// Whatever the other rows of a tile, a call or a thread's share are; with some of every kind.
TEST_P(PairedTest, APixelsBitsAreItsOwn) {
  Problem p(13, 10, 300, 96, 1, 1, random);
  p.x[300 * 17] = kInfinity;
  std::fill_n(p.x.begin() + 300 * 31, 300, 0.0F);
  for (std::size_t k = 0; k < 300; ++k) p.x[300 * 44 + k] *= 1e-30F;
  const ConvRows op = p.op();
  const auto whole = testing::run_pieces(op, p.x, &p.residual, p.output.height);
  for (const std::int64_t step : {1, 2, 5}) {
    for (const bool by_shares : {false, true}) {
      const auto pieces = testing::run_pieces(op, p.x, &p.residual, step, by_shares);
      EXPECT_EQ(std::memcmp(pieces.data(), whole.data(), whole.size() * sizeof(float)), 0)
          << step << (by_shares ? " by shares" : "");
    }
  }
}

// Sums so long that the values of all rows would not stay in L2 are added up in steps, for the bits
// of a few rows at a time.
TEST_P(PairedTest, StepsChangeNoBit) {
  constexpr std::size_t kPixels = 49;
  const std::size_t long_sums = l2_cache_bytes() / (3 * kPixels);  // 4/3 of L2 for all pixels
  for (const std::int64_t kernel : {1, 3}) {
    const auto in = static_cast<std::int64_t>(long_sums) / (kernel * kernel);
    Problem p(6 + kernel, 6 + kernel, in, 103, kernel, 1, random);
    const auto row = [&](std::int64_t i) { return p.x.begin() + i * in; };
    row(17)[0] = kInfinity;
    std::fill_n(row(31), in, 0.0F);
    std::for_each(row(44), row(45), [](float& v) { v *= 1e-30F; });
    const ConvRows op = p.op(Epilogue{Activation(ActivationKind::kRelu)});
    expect_pairs(op);
    const PairedShape shape{kPixels, 1, 103, 1, to_size(p.depth())};
    EXPECT_EQ(PairedSet::choose(shape, p.weight.data())->rows_at_once(shape), kPixels);
    for (std::int64_t rows = 1; rows < 7; ++rows) {
      EXPECT_LE(op.workspace_bytes(rows), op.workspace_bytes(rows + 1)) << rows;
    }
    const auto whole = testing::run_pieces(op, p.x, &p.residual, 7);
    for (const bool by_shares : {false, true}) {
      const auto pieces = testing::run_pieces(op, p.x, &p.residual, 1, by_shares);
      EXPECT_EQ(std::memcmp(pieces.data(), whole.data(), whole.size() * sizeof(float)), 0);
    }
  }
}

TEST_P(PairedTest, StepsAreForLongSums) {
  const std::size_t room = l2_cache_bytes() / 2 / sizeof(float);  // that values have
  const auto at_once = [](const PairedShape& shape) {
    std::vector<float> weight(shape.columns * shape.products());
    std::mt19937 numbers(1);
    testing::fill(weight.data(), static_cast<std::int64_t>(weight.size()), numbers);
    return PairedSet::choose(shape, weight.data())->rows_at_once(shape);
  };
  EXPECT_EQ(at_once({100, 1, 96, 1, 240}), 100) << "there is room for all";
  const std::size_t rows = 2 * room / 240;
  EXPECT_LE(at_once({rows, 1, 96, 1, 240}), rows / 2) << "weights stay in L2";
  const std::size_t products = 2 * room / 100;
  EXPECT_EQ(at_once({100, 1, 256, 1, products}), 100) << "weights come from further away";
}

// A pixel whose values pairs would harm is multiplied without, and its neighbours are not harmed.
TEST_P(PairedTest, SpecialValuesGoTheirOwnWay) {
  constexpr std::size_t kIn = 96, kOut = 96;
  Problem p(5, 6, kIn, kOut, 1, 1, random);
  const auto plain = testing::run_pieces(p.op(), p.x, nullptr, 5);
  const auto row = [&](std::size_t i) {
    return p.x.begin() + static_cast<std::ptrdiff_t>(i * kIn);
  };
  row(0)[5] = kInfinity;
  row(7)[95] = std::numeric_limits<float>::quiet_NaN();
  std::fill_n(row(9), kIn, 0.0F);
  std::fill_n(row(12), kIn, -0.0F);
  for (std::size_t k = 0; k < kIn; ++k) row(15)[static_cast<std::ptrdiff_t>(k)] = 1e36F;
  for (std::size_t k = 0; k < kIn; ++k) row(20)[static_cast<std::ptrdiff_t>(k)] *= 1e-40F;
  const auto y = testing::run_pieces(p.op(), p.x, nullptr, 5);
  for (std::size_t i = 0; i < 30; ++i) {
    for (std::size_t o = 0; o < kOut; ++o) {
      const float got = y[i * kOut + o], bias = p.bias[o];
      double sum = 0, size = 0;
      for (std::size_t k = 0; k < kIn; ++k) {
        const double product = double{p.x[i * kIn + k]} * double{p.weight[o * kIn + k]};
        sum += product;
        size += std::abs(product);
      }
      if (i == 0) {
        EXPECT_TRUE(std::isinf(got) && std::signbit(got) == std::signbit(p.weight[o * kIn + 5]));
      } else if (i == 7) {
        EXPECT_TRUE(std::isnan(got));
      } else if (i == 9 || i == 12) {
        EXPECT_EQ(got, bias);
      } else if (i == 15 || i == 20) {
        EXPECT_NEAR(got, sum + double{bias}, testing::bound(size + std::abs(bias), kIn)) << i;
      } else {
        EXPECT_EQ(got, plain[i * kOut + o]) << i;
      }
    }
  }
}

// Rows whose squares are no floats, nor some of their values with all of their bits. What the least
// number is too coarse for is added to the bound: products' and sums' roundings, K of each.
TEST_P(PairedTest, TinyValuesArePairsToo) {
  constexpr std::int64_t kIn = 96, kOut = 96;
  for (const float size : {1e-12F, 1e-20F, 1e-30F, 1e-33F, 1e-36F, 1e-38F, 1e-40F, 1e-43F}) {
    Problem p(3, 4, kIn, kOut, 1, 1, random);
    std::fill(p.bias.begin(), p.bias.end(), 0.0F);
    for (float& v : p.x) v *= size;
    const ConvRows op = p.op();
    expect_pairs(op);
    const auto y = testing::run_pieces(op, p.x, nullptr, 3);
    std::size_t n = 0;
    for (std::int64_t i = 0; i < 3; ++i)
      for (std::int64_t j = 0; j < 4; ++j)
        for (std::int64_t o = 0; o < kOut; ++o, ++n) {
          double column = 0;
          for (std::int64_t k = 0; k < kIn; ++k) column += p.tap(o, k) * p.tap(o, k);
          const double least = kIn * 0x1p-149 * (1 + std::sqrt(column));
          ASSERT_NEAR(y[n], exact(p, o, i, j), bound(p, o, i, j) + least) << size;
        }
  }
}

// AVX3's two tiles do the same in another order.
TEST_P(PairedTest, BitsDoNotDependOnTheAdders) {
  for (const std::int64_t depth : {63, 96, 290, 700}) {
    for (const std::int64_t out : {88, 96, 103, 144}) {
      Problem p(7, 5, depth, out, 1, 1, random);
      p.x[to_size(3 * depth)] = kInfinity;
      std::vector<float> y[2];
      for (const Adders adders : {Adders::kHalf, Adders::kWhole}) {
        assume_adders(adders);
        const ConvRows op = p.op();
        expect_pairs(op);
        y[adders == Adders::kWhole] = testing::run_pieces(op, p.x, &p.residual, 3);
      }
      EXPECT_EQ(std::memcmp(y[0].data(), y[1].data(), y[0].size() * sizeof(float)), 0)
          << depth << " to " << out;
    }
  }
}

// On random numbers the pairs' roundings are about as large as those of single products.
TEST_P(PairedTest, IsNearlyAsAccurateAsFma) {
  for (const std::int64_t depth : {96, 500, 2000}) {
    Problem p(6, 8, depth, 128, 1, 1, random);
    for (const bool relu : {false, true}) {
      for (float& v : p.x) v = relu ? std::max(v, 0.0F) : v;
      const ConvRows paired = p.op(), single = p.op({}, ErrorBound::kElement);
      expect_pairs(paired);
      const auto y = testing::run_pieces(paired, p.x, nullptr, 6);
      const auto z = testing::run_pieces(single, p.x, nullptr, 6);
      double errors[2] = {};
      std::size_t n = 0;
      for (std::int64_t i = 0; i < 6; ++i)
        for (std::int64_t j = 0; j < 8; ++j)
          for (std::int64_t o = 0; o < 128; ++o, ++n) {
            const double e = exact(p, o, i, j), unit = bound(p, o, i, j);
            errors[0] += std::pow((double{y[n]} - e) / unit, 2);
            errors[1] += std::pow((double{z[n]} - e) / unit, 2);
          }
      EXPECT_LT(std::sqrt(errors[0]), 2.5 * std::sqrt(errors[1])) << depth << (relu ? " relu" : "");
    }
  }
}

TEST_P(PairedTest, IsChosenWhereItPaysAndHarmsNothing) {
  std::vector<float> weight(to_size(768 * 768));
  testing::fill(weight.data(), 768 * 768, random);
  const auto chosen = [&](std::size_t rows, std::size_t columns, std::size_t products) {
    return PairedSet::choose({rows, 1, columns, 1, products}, weight.data()).has_value();
  };
  EXPECT_TRUE(chosen(196, 768, 768));
  EXPECT_TRUE(chosen(49, 160, 700));
  EXPECT_FALSE(chosen(1, 768, 768)) << "weights are read for one row";
  EXPECT_FALSE(chosen(3136, 96, 16)) << "little to multiply with";
  EXPECT_FALSE(chosen(3136, 1, 96)) << "few columns to share the preparation";
  for (const float value : {kInfinity, std::numeric_limits<float>::quiet_NaN(), 1e30F}) {
    const float before = std::exchange(weight[1234], value);
    EXPECT_FALSE(chosen(196, 96, 768)) << value;
    weight[1234] = before;
  }
  std::fill_n(weight.begin() + 768 * 3, 768, 0.0F);
  EXPECT_TRUE(chosen(196, 96, 768)) << "a column of zeros stays one";
  weight[768 * 3 + 3] = 1;
  EXPECT_FALSE(chosen(196, 96, 768)) << "a column that copies a value";
  set_paired_products(false);
  EXPECT_FALSE(chosen(196, 768, 768));
}

// What a row costs where vectors are added whole. Below AVX3 nothing is assumed to add beside.
TEST_P(PairedTest, IsChosenByWhatTheAddersTake) {
  unsetenv("SEPCONV_PAIRS");  // or else it would decide
  std::vector<float> weight(to_size(768 * 96));
  testing::fill(weight.data(), 768 * 96, random);
  const bool adds = GetParam() == "AVX3";
  set_paired_products(std::nullopt);
  assume_adders(Adders::kWhole);
  const auto chosen = [&](const PairedShape& shape) {
    return PairedSet::choose(shape, weight.data()).has_value();
  };
  EXPECT_EQ(chosen({196, 1, 576, 1, 96}), adds);
  EXPECT_FALSE(chosen({784, 1, 192, 1, 32})) << "finishing and preparing take what is saved";
  EXPECT_FALSE(chosen({784, 1, 48, 1, 576})) << "a third vector alone waits for its loads";
  EXPECT_EQ(chosen({12544, 1, 96, 1, 147}), adds);
  EXPECT_FALSE(chosen({12544, 1, 96, 7, 21})) << "joining seven runs takes longer";
  EXPECT_EQ(adders_traded_for(), adds ? Adders::kWhole : Adders::kNone);
  set_paired_products(true);
  EXPECT_EQ(adders_traded_for(), Adders::kHalf);
}

bool has_kernel(const Network& network, const std::string& kernel) {
  const auto steps = network.explain();
  return std::any_of(steps.begin(), steps.end(), [&](const StepInfo& step) {
    return step.kernel.find(kernel) != std::string::npos;
  });
}

// And in its layers with a scale of their input, each of which rounds a few times more or less.
TEST_P(PairedTest, ANetworkGivesWhatItGivesWithoutUpToRounding) {
  const Tensor x = testing::random_tensor({1, 3, 128, 128}, random);
  for (const auto& [name, scaled] : {std::pair("efficientnet_b0", "scaled pointwise "),
                                     std::pair("mixnet_s", "scaled pointwise g2 ")}) {
    models::RandomWeights weights;
    const Graph graph = models::build(name, weights);
    set_paired_products(true);
    const Network paired(graph, x.shape());
    set_paired_products(false);
    const Network single(graph, x.shape());
    EXPECT_TRUE(has_kernel(paired, scaled + paired_kernels().describe())) << name;
    const Tensor got = paired(x.view()), expected = single(x.view());
    double error = 0, size = 0;
    for (std::int64_t i = 0; i < expected.shape().elements(); ++i) {
      error += std::pow(double{got.data()[i]} - double{expected.data()[i]}, 2);
      size += std::pow(double{expected.data()[i]}, 2);
    }
    EXPECT_LT(std::sqrt(error / size), 50 * 0x1p-23) << name;
  }
}

// AMX comes before pairs.
std::vector<std::string> targets_below_amx() {
  std::vector<std::string> targets = cpu_info().built_targets;
  std::erase(targets, "AMX");
  return targets;
}

INSTANTIATE_TEST_SUITE_P(Targets, PairedTest, ::testing::ValuesIn(targets_below_amx()),
                         testing::target_name);

}  // namespace
}  // namespace sepconv
