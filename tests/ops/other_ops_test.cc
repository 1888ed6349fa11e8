#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "base/scratch.h"
#include "ops/packed_weights.h"
#include "sepconv/ops.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

class OpsTest : public testing::EachTarget {};

// Small ones, and some whose columns are shared out among threads.
TEST_P(OpsTest, LinearIsAMatrixProduct) {
  struct Case {
    std::int64_t n, in, out;
  };
  std::mt19937 random(1);
  for (const Case c : {Case{0, 37, 21}, Case{1, 37, 21}, Case{2, 37, 21}, Case{7, 37, 21},
                       Case{70, 37, 21}, Case{1, 300, 1001}, Case{67, 300, 335}}) {
    const Tensor x = testing::random_tensor({c.n, c.in}, random);
    const Tensor w = testing::random_tensor({c.out, c.in}, random);
    const Tensor b = testing::random_tensor({c.out}, random);
    const Linear linear(x.shape(), w.view(), b.view());
    const Tensor y = linear(x.view()), threaded = linear(x.view(), ThreadPool(3));
    for (std::int64_t i = 0; i < c.n * c.out; ++i) {
      const std::int64_t row = i / c.out, column = i % c.out;
      double sum = b.data()[column], size = std::abs(sum);
      for (std::int64_t k = 0; k < c.in; ++k) {
        const double p = static_cast<double>(x.data()[row * c.in + k]) *
                         static_cast<double>(w.data()[column * c.in + k]);
        sum += p;
        size += std::abs(p);
      }
      ASSERT_NEAR(y.data()[i], sum, testing::bound(size, c.in + 1));
      ASSERT_EQ(y.data()[i], threaded.data()[i]);
    }
  }
}

// Panels that end within a vector, by other kernels for one row than for several.
TEST_P(OpsTest, LinearGivesARowTheBitsThatItHasAmongOthers) {
  std::mt19937 random(8);
  for (const std::int64_t in : {30, 31, 256, 300}) {
    for (const std::int64_t out : {8, 24, 28, 40, 56, 84, 100}) {
      constexpr std::int64_t kRows = 13;
      const Tensor x = testing::random_tensor({kRows, in}, random);
      const Tensor w = testing::random_tensor({out, in}, random);
      const Tensor all = Linear(x.shape(), w.view())(x.view());
      const Linear one({1, in}, w.view());
      for (std::int64_t row = 0; row < kRows; ++row) {
        const Tensor y = one(TensorView(const_cast<float*>(x.data()) + row * in, {1, in}));
        for (std::int64_t i = 0; i < out; ++i) {
          ASSERT_EQ(y.data()[i], all.data()[row * out + i]) << in << " -> " << out << ", " << i;
        }
      }
    }
  }
}

// An image of `count` equal pixels.
Tensor repeated(const Tensor& pixel, std::int64_t count) {
  const std::int64_t channels = pixel.shape()[1];
  Tensor image({1, channels, 1, count}, Layout::kNHWC);
  for (std::int64_t i = 0; i < count; ++i) {
    std::copy_n(pixel.data(), channels, image.data() + i * channels);
  }
  return image;
}

// One row goes through a kernel of its own, against several panels of weights at once.
void expect_the_bits_of_two_pixels(std::int64_t in, std::int64_t out, const Conv2dOptions& options,
                                   std::mt19937& random) {
  const Tensor w = testing::random_tensor({out, in}, random);
  const Tensor b = testing::random_tensor({out}, random);
  const Tensor x = testing::random_tensor({1, in, 1, 1}, random);
  const Tensor residual = testing::random_tensor({1, out, 1, 1}, random);
  const auto first_of = [&](std::int64_t count) {
    const Tensor image = repeated(x, count), add = repeated(residual, count);
    const PointwiseConv2d op(image.shape(), w.view(), b.view(), options);
    const Scratch workspace(op.workspace_bytes());
    Tensor y(op.output_shape(), Layout::kNHWC);
    op.run(image.view(), options.residual ? add.view() : TensorView(), y.view(), workspace.get());
    return std::vector<float>(y.data(), y.data() + out);
  };
  EXPECT_EQ(first_of(1), first_of(2)) << in << " to " << out;
}

TEST_P(OpsTest, OnePixelHasTheBitsOfTwo) {
  std::mt19937 random(3);
  Conv2dOptions o;
  for (const auto& [in, out] :
       {std::pair(5, 8), {20, 24}, {20, 33}, {96, 52}, {256, 96}, {300, 100}, {700, 335}}) {
    for (const ActivationKind kind : {ActivationKind::kRelu6, ActivationKind::kSilu}) {
      o.activation = kind;
      o.residual = o.residual_before_activation = false;
      expect_the_bits_of_two_pixels(in, out, o, random);
      o.residual = true;
      expect_the_bits_of_two_pixels(in, out, o, random);
      o.residual_before_activation = true;
      expect_the_bits_of_two_pixels(in, out, o, random);
    }
  }
}

// What lies in the window of one output: of max and average pools.
struct WindowOf {
  float best = -std::numeric_limits<float>::infinity();
  double sum = 0;
  int count = 0;

  WindowOf(const TensorView& x, const Pool2dOptions& o, Size2d padding, std::int64_t n,
           std::int64_t c, std::int64_t i, std::int64_t j) {
    const std::int64_t top = i * o.stride.height - padding.height;
    const std::int64_t left = j * o.stride.width - padding.width;
    for (std::int64_t h = top; h < top + o.kernel.height; ++h)
      for (std::int64_t w = left; w < left + o.kernel.width; ++w) {
        if (h < 0 || h >= x.shape()[2] || w < 0 || w >= x.shape()[3]) continue;
        const float v = testing::at(x, n, c, h, w);
        sum += static_cast<double>(v);
        best = std::max(best, v);
        ++count;
      }
  }
};

void expect_pools(const Tensor& x, Pool2dOptions o, Size2d padding, Layout layout) {
  o.padding = {padding.height, padding.height, padding.width, padding.width};
  const Tensor top = Pool2d(x.shape(), Pool::kMax, o, layout)(x.view());
  const Tensor mean = Pool2d(x.shape(), Pool::kAverage, o, layout)(x.view());
  const Shape& s = top.shape();
  const std::int64_t taps = o.kernel.height * o.kernel.width;
  for (std::int64_t n = 0; n < s[0]; ++n)
    for (std::int64_t c = 0; c < s[1]; ++c)
      for (std::int64_t i = 0; i < s[2]; ++i)
        for (std::int64_t j = 0; j < s[3]; ++j) {
          const WindowOf w(x.view(), o, padding, n, c, i, j);
          const double divisor = o.count_include_pad ? static_cast<double>(taps) : w.count;
          ASSERT_EQ(testing::at(top.view(), n, c, i, j), w.best);
          ASSERT_NEAR(testing::at(mean.view(), n, c, i, j), w.sum / divisor, 1e-5);
        }
}

TEST_P(OpsTest, PoolsMatchTheirDefinition) {
  std::mt19937 random(2);
  for (Layout layout : {Layout::kNHWC, Layout::kNCHW}) {
    for (bool include : {false, true}) {
      const Tensor x = testing::random_tensor({2, 37, 9, 8}, random, layout);
      Pool2dOptions o;
      o.count_include_pad = include;
      for (const auto& [kernel, stride, padding] : std::vector<std::array<Size2d, 3>>{
               {{{3, 2}, {2, 3}, {1, 1}}},
               {{{3, 3}, {1, 1}, {1, 1}}},
               {{{2, 2}, {2, 2}, {0, 0}}},
               {{{1, 3}, {1, 2}, {0, 1}}},
               {{{4, 1}, {3, 1}, {2, 0}}},
               {{{9, 8}, {1, 1}, {0, 0}}},
           }) {
        o.kernel = kernel;
        o.stride = stride;
        expect_pools(x, o, padding, layout);
      }
      const Tensor all = GlobalAveragePool(x.shape(), layout)(x.view());
      ASSERT_EQ(all.shape(), (Shape{2, 37, 1, 1}));
      double sum = 0;
      for (std::int64_t i = 0; i < 72; ++i) {
        sum += static_cast<double>(testing::at(x.view(), 1, 10, i / 8, i % 8));
      }
      EXPECT_NEAR(testing::at(all.view(), 1, 10, 0, 0), sum / 72, 1e-6);
    }
  }
}

// Wherever in its window it is.
TEST_P(OpsTest, PoolsPassNanOn) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (std::int64_t size : {2, 3, 4}) {
    Pool2dOptions o;
    o.kernel = Size2d{size, size};
    o.stride = Size2d{size, size};
    for (std::int64_t at = 0; at < size * size; ++at) {
      Tensor x({1, 20, size, size}, Layout::kNHWC);
      std::fill_n(x.data(), 20 * size * size, -kInfinity);
      x.data()[20 * at + 3] = std::numeric_limits<float>::quiet_NaN();
      x.data()[20 * at + 17] = kInfinity;
      const Tensor top = Pool2d(x.shape(), Pool::kMax, o, Layout::kNHWC)(x.view());
      const Tensor mean = Pool2d(x.shape(), Pool::kAverage, o, Layout::kNHWC)(x.view());
      EXPECT_TRUE(std::isnan(top.data()[3])) << size << " at " << at;
      EXPECT_TRUE(std::isnan(mean.data()[3])) << size << " at " << at;
      EXPECT_EQ(top.data()[17], kInfinity);
      EXPECT_EQ(top.data()[18], -kInfinity);
    }
  }
}

TEST_P(OpsTest, SoftmaxSumsToOneAndBearsLargeValues) {
  Tensor x(Shape{2, 13});
  for (int i = 0; i < 26; ++i) x.data()[i] = static_cast<float>(i * i) - 100.0F;
  const Tensor y = Softmax(x.shape())(x.view());
  for (int row = 0; row < 2; ++row) {
    double sum = 0, top = 0;
    for (int i = 0; i < 13; ++i) {
      sum += static_cast<double>(y.data()[13 * row + i]);
      top += std::exp(static_cast<double>(x.data()[13 * row + i] - x.data()[13 * row + 12]));
    }
    EXPECT_NEAR(sum, 1.0, 1e-6);
    EXPECT_NEAR(y.data()[13 * row + 12], 1 / top, 1e-6);
  }
}

TEST_P(OpsTest, ActivationsAreAccurateOverTheWholeRange) {
  const std::int64_t n = 20001;
  const Shape shape{1, 1, 1, n};
  Tensor x(shape, Layout::kNHWC), one(Shape{1, 1});
  one.data()[0] = 1;
  for (std::int64_t i = 0; i < n; ++i) x.data()[i] = static_cast<float>(i - 10000) * 0.002F;
  // gelu loses digits where 1 + erf cancels, and hardswish where x / 6 and ½ do: their bound is in
  // units of x there.
  const auto check = [&](ActivationKind kind, double ulps, bool cancels) {
    Conv2dOptions o;
    o.activation = kind;
    const Tensor y = PointwiseConv2d(shape, one.view(), {}, o)(x.view());
    for (std::int64_t i = 0; i < n; ++i) {
      const double v = static_cast<double>(x.data()[i]), exact = testing::activated(kind, v).first;
      const double unit = std::max(std::abs(exact), cancels ? std::abs(v) / 8 : 0);
      ASSERT_NEAR(y.data()[i], exact, ulps * 0x1p-23 * unit) << to_string(kind) << " of " << v;
    }
  };
  check(ActivationKind::kSilu, 4, false);
  check(ActivationKind::kSigmoid, 8, false);
  check(ActivationKind::kGelu, 8, true);
  check(ActivationKind::kGeluTanh, 12, true);
  check(ActivationKind::kHardSigmoid, 3, true);
  check(ActivationKind::kHardSwish, 8, true);
  check(ActivationKind::kTanh, 4, false);
  check(ActivationKind::kElu, 4, false);
  check(ActivationKind::kSoftplus, 4, false);
  check(ActivationKind::kMish, 6, false);
}

INSTANTIATE_TEST_SUITE_P(Targets, OpsTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

TEST(Pool2d, RefusesPaddingAsLargeAsTheKernel) {
  Pool2dOptions o;
  o.padding = 1;
  EXPECT_THROW(Pool2d({1, 1, 4, 4}, Pool::kMax, o), ArgumentError);
}

TEST(PackedStore, SharesWhatComesFromTheSameNumbers) {
  const auto tensor = [](float last) {
    auto t = std::make_shared<Tensor>(Shape{2, 3});
    for (int k = 0; k < 6; ++k) t->data()[k] = k < 5 ? static_cast<float>(k) : last;
    return t;
  };
  PackedStore store;
  const auto packed = [&](const PackedStore::Source& weight, const PackedStore::Source& bias) {
    return store.get(weight, bias, "test",
                     [](PageArena* arena) { return std::make_shared<PackedWeights>(1, 1, arena); });
  };
  const SharedWeights first = packed(tensor(5), nullptr);
  EXPECT_EQ(packed(tensor(5), nullptr), first);
  EXPECT_NE(packed(tensor(6), nullptr), first);
  EXPECT_NE(packed(tensor(5), tensor(5)), first);
}

}  // namespace
}  // namespace sepconv
