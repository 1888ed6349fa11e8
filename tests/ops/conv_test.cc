// Convolutions between guard pages against nested loops in double, on every target.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "base/aligned.h"
#include "base/cpu.h"
#include "sepconv/gradients.h"
#include "sepconv/ops.h"
#include "support/guarded.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

using testing::GuardedFloats;

struct Case {
  Shape x, weight;
  Conv2dOptions options;
  std::int64_t groups;
};

std::int64_t draw(std::mt19937& random, std::int64_t lo, std::int64_t hi) {
  return std::uniform_int_distribution<std::int64_t>(lo, hi)(random);
}

Case draw_case(std::mt19937& random, int kind) {
  Case c;
  const std::int64_t k = kind == 1 ? 1 : draw(random, 1, 4) * 2 - 1;
  c.groups = kind == 0 ? draw(random, 2, 40) : kind == 3 ? draw(random, 2, 3) : 1;
  const std::int64_t in = kind == 0 ? c.groups : c.groups * draw(random, 1, 24);
  const std::int64_t out = c.groups * draw(random, 1, kind == 0 ? 2 : 24);
  c.x = {draw(random, 0, 2), in, draw(random, k, 17), draw(random, k, 17)};
  c.weight = {out, in / c.groups, k, k};
  c.options.stride = {draw(random, 1, 3), draw(random, 1, 3)};
  if (draw(random, 0, 1)) c.options.stride = c.options.stride.height;
  c.options.padding = kind == 1 ? 0 : draw(random, 0, k / 2);
  return c;
}

class ConvTest : public testing::EachTarget {
 protected:
  void TearDown() override {
    assume_adders(std::nullopt);
    EachTarget::TearDown();
  }
  // Some kernels are others where additions have units of their own.
  static void assume_other_adders(int i) { assume_adders(i % 2 ? Adders::kNone : Adders::kHalf); }
};

// Between guard pages; `after`: the pages lie behind the data instead of before it.
void check(const Case& c, Layout layout, bool after, std::mt19937& random) {
  const Tensor weight = testing::random_tensor(c.weight, random);
  const Tensor bias = testing::random_tensor({c.weight[0]}, random);
  const Conv2d op(c.x, weight.view(), bias.view(), c.options, c.groups, layout);
  const Shape& out = op.output_shape();
  GuardedFloats x(static_cast<std::size_t>(c.x.elements()), after);
  GuardedFloats y(static_cast<std::size_t>(out.elements()), after);
  testing::fill(x.data(), c.x.elements(), random);
  const TensorView in(x.data(), c.x, layout), result(y.data(), out, layout);
  const std::size_t bytes = op.workspace_bytes();
  const auto workspace = make_aligned<std::byte>(bytes);
  op.run(in, result, {workspace.get(), bytes});
  const testing::Exact exact =
      testing::convolve(in, weight.view(), bias.data(), c.options, c.groups, out);
  const std::int64_t products = c.weight[1] * c.weight[2] * c.weight[3] + 1;
  std::size_t k = 0;
  for (std::int64_t n = 0; n < out[0]; ++n)
    for (std::int64_t ch = 0; ch < out[1]; ++ch)
      for (std::int64_t h = 0; h < out[2]; ++h)
        for (std::int64_t w = 0; w < out[3]; ++w, ++k) {
          ASSERT_NEAR(testing::at(result, n, ch, h, w), exact.value[k],
                      testing::bound(exact.magnitude[k], products))
              << op.describe();
        }
}

TEST_P(ConvTest, StaysInsideItsTensorsAndTheBound) {
  std::mt19937 random(1);
  for (int i = 0; i < 400 && !HasFatalFailure(); ++i) {
    assume_other_adders(i / 16);
    check(draw_case(random, i % 4), i / 4 % 2 ? Layout::kNCHW : Layout::kNHWC, i / 8 % 2, random);
  }
}

// Windows larger than the map, oblong, dilated, padded on all sides.
Case draw_depthwise_window(std::mt19937& random) {
  Case c;
  const std::int64_t channels = draw(random, 1, 40);
  const std::int64_t height = draw(random, 1, 20), width = draw(random, 1, 20);
  const std::int64_t kh = draw(random, 1, 13), kw = draw(random, 0, 1) ? kh : draw(random, 1, 13);
  c.groups = channels;
  c.x = {1, channels, height, width};
  c.weight = {channels, 1, kh, kw};
  c.options.stride =
      draw(random, 0, 1) ? Size2d(1) : Size2d{draw(random, 1, 2), draw(random, 1, 3)};
  c.options.dilation =
      draw(random, 0, 1) ? Size2d(1) : Size2d{draw(random, 1, 2), draw(random, 1, 3)};
  const auto pad = [&](std::int64_t size, std::int64_t k, std::int64_t dilation) {
    const std::int64_t extent = (k - 1) * dilation + 1;
    return std::max(draw(random, 0, extent - 1), (extent - size + 1) / 2);
  };
  const auto [dy, dx] = c.options.dilation;
  c.options.padding = {pad(height, kh, dy), pad(height, kh, dy), pad(width, kw, dx),
                       pad(width, kw, dx)};
  return c;
}

TEST_P(ConvTest, AnyDepthwiseWindow) {
  std::mt19937 random(4);
  for (int i = 0; i < 200 && !HasFatalFailure(); ++i) {
    assume_other_adders(i / 4);
    check(draw_depthwise_window(random), i / 2 % 2 ? Layout::kNCHW : Layout::kNHWC, i % 2, random);
  }
}

// Taps far apart, of which many lie in the padding.
Case draw_dilated(std::mt19937& random, bool depthwise) {
  Case c;
  const std::int64_t channels = draw(random, 16, 40), k = 1 + 2 * draw(random, 1, 3);
  c.groups = depthwise ? channels : draw(random, 1, 2);
  const std::int64_t each = depthwise ? 1 : draw(random, 1, 300) / (k * k) + 1;
  c.x = {1, c.groups * each, draw(random, 1, 28), draw(random, 1, 28)};
  c.weight = {depthwise ? channels : c.groups * draw(random, 1, 40), each, k, k};
  c.options.dilation = {draw(random, 1, 14), draw(random, 1, 14)};
  if (draw(random, 0, 1)) c.options.dilation = c.options.dilation.height;
  if (!draw(random, 0, 3)) c.options.stride = {draw(random, 1, 2), draw(random, 1, 2)};
  const auto pad = [&](std::int64_t size, std::int64_t dilation) {
    const std::int64_t reach = (k - 1) * dilation;
    return draw(random, 0, 2) ? std::max(reach / 2, (reach + 2 - size) / 2)
                              : std::max(draw(random, 0, reach), (reach + 2 - size) / 2);
  };
  const std::int64_t rows = pad(c.x[2], c.options.dilation.height);
  const std::int64_t columns = pad(c.x[3], c.options.dilation.width);
  c.options.padding = {rows, rows, columns, columns};
  return c;
}

TEST_P(ConvTest, DilatedWindows) {
  std::mt19937 random(12);
  for (int i = 0; i < 160 && !HasFatalFailure(); ++i) {
    check(draw_dilated(random, i % 2), i / 2 % 2 ? Layout::kNCHW : Layout::kNHWC, i / 4 % 2,
          random);
  }
  // Taps of more than one part of a sum, and pixels without any.
  Case deep{{1, 300, 7, 9}, {20, 300, 3, 3}, {}, 1};
  deep.options.dilation = 4;
  deep.options.padding = Padding(14, 4, 4, 14);
  check(deep, Layout::kNHWC, true, random);
}

TEST_P(ConvTest, DilatedWindowsLeaveOutPaddingAndSlide) {
  Conv2dOptions options;
  options.dilation = 12;
  options.padding = 12;
  const Tensor dense({32, 32, 3, 3}), depthwise({32, 1, 3, 3});
  const Conv2d on_small_maps({1, 32, 14, 14}, dense.view(), {}, options);
  EXPECT_EQ(on_small_maps.describe().rfind("conv 3x3 d12 without padding gemm", 0), 0u);
  const Conv2d on_large_maps({1, 32, 80, 80}, dense.view(), {}, options);
  EXPECT_EQ(on_large_maps.describe().find("without padding"), std::string::npos);
  const DepthwiseConv2d sliding({1, 32, 80, 80}, depthwise.view(), {}, options);
  EXPECT_EQ(sliding.describe().rfind("depthwise 3x3 d12 slide", 0), 0u) << sliding.describe();
}

// Groups of a few channels, on maps with borders on every side.
Case draw_small_groups(std::mt19937& random) {
  Case c;
  const std::int64_t group = std::int64_t{1} << draw(random, 1, 4);
  c.groups = 32 / group + draw(random, 0, 3);
  c.x = {1, c.groups * group, draw(random, 1, 13), draw(random, 1, 13)};
  c.weight = {c.groups * group, group, 3, 3};
  c.options.stride = draw(random, 1, 2);
  c.options.padding = {draw(random, 0, 2), 2, draw(random, 0, 2), 2};
  return c;
}

TEST_P(ConvTest, SmallGroups) {
  std::mt19937 random(8);
  for (int i = 0; i < 200 && !HasFatalFailure(); ++i) {
    check(draw_small_groups(random), i / 2 % 2 ? Layout::kNCHW : Layout::kNHWC, i % 2, random);
  }
}

TEST_P(ConvTest, GroupsThatAVectorHoldsSlide) {
  const auto kernel = [](std::int64_t group) {
    const Tensor weight({32, group, 3, 3});
    return Conv2d({1, 32, 8, 8}, weight.view(), {}, {}, 32 / group).describe();
  };
  const bool vectors = GetParam() != "SCALAR";
  EXPECT_EQ(kernel(4).find("conv 3x3 g8 slide") != std::string::npos, vectors) << kernel(4);
  EXPECT_EQ(kernel(32).find("slide"), std::string::npos) << kernel(32);
}

// A band may be cut anywhere: images of every height share the bits of their common rows.
TEST_P(ConvTest, LargeWindowsAndGroupsGiveTheSameBitsForAnyBand) {
  std::mt19937 random(5);
  const std::int64_t channels = 36, width = 23, height = 12;
  const Tensor x = testing::random_tensor({1, channels, height, width}, random, Layout::kNHWC);
  for (const Shape& shape : {Shape{channels, 1, 9, 9}, Shape{channels, 4, 3, 3}}) {
    const Tensor weight = testing::random_tensor(shape, random);
    const std::int64_t groups = channels / shape[1];
    const Tensor whole = Conv2d(x.shape(), weight.view(), {}, {}, groups)(x.view());
    for (std::int64_t rows = shape[2]; rows < height; ++rows) {
      const TensorView top(const_cast<float*>(x.data()), {1, channels, rows, width}, Layout::kNHWC);
      const Tensor y = Conv2d(top.shape(), weight.view(), {}, {}, groups)(top);
      EXPECT_TRUE(std::equal(y.data(), y.data() + y.shape().elements(), whole.data())) << rows;
    }
  }
}

Tensor in_layout(const TensorView& t, Layout layout) {
  Tensor result(t.shape(), layout);
  copy(t, result.view());
  return result;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const std::size_t bytes = static_cast<std::size_t>(a.shape().elements()) * sizeof(float);
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), bytes) == 0;
}

TEST_P(ConvTest, DepthwiseAndSeparableHaveTheSameBitsInBothLayoutsOnAnyThreads) {
  std::mt19937 random(6);
  const ThreadPool pool(3);
  for (int i = 0; i < 60; ++i) {
    Case c = draw_case(random, 0);
    const std::int64_t channels = draw(random, 16, 60);  // a whole vector at least
    c.weight = {channels * (c.weight[0] / c.groups), 1, c.weight[2], c.weight[3]};
    c.x = {c.x[0], channels, c.x[2], c.x[3]};
    const Tensor x = testing::random_tensor(c.x, random),
                 weight = testing::random_tensor(c.weight, random);
    const Tensor second = testing::random_tensor({draw(random, 1, 40), c.weight[0]}, random);
    const Tensor last = in_layout(x.view(), Layout::kNHWC);
    const DepthwiseConv2d planes(c.x, weight.view(), {}, c.options, Layout::kNCHW);
    const DepthwiseConv2d pixels(c.x, weight.view(), {}, c.options, Layout::kNHWC);
    const Tensor expected = in_layout(pixels(last.view()).view(), Layout::kNCHW);
    EXPECT_TRUE(same_bits(planes(x.view()), expected)) << planes.describe();
    EXPECT_TRUE(same_bits(planes(x.view(), pool), expected)) << planes.describe();
    const auto separable = [&](Layout layout) {
      return SeparableConv2d(c.x, weight.view(), second.view(), {}, {}, c.options, {}, layout);
    };
    const Tensor through = separable(Layout::kNCHW)(x.view(), pool);
    EXPECT_TRUE(
        same_bits(through, in_layout(separable(Layout::kNHWC)(last.view()).view(), Layout::kNCHW)));
  }
}

// Image `i` of a batch.
TensorView image(const Tensor& t, std::int64_t i) {
  const Shape& s = t.shape();
  const Shape one{1, s[1], s[2], s[3]};
  return TensorView(const_cast<float*>(t.data()) + i * one.elements(), one, t.layout());
}

// A batch whose first and last images are random, and the others zero.
Tensor random_at_the_ends(const Shape& batch, std::mt19937& random, Layout layout) {
  Tensor x(batch, layout);
  const std::int64_t size = batch.elements() / batch[0];
  testing::fill(x.data(), size, random);
  testing::fill(x.data() + (batch[0] - 1) * size, size, random);
  return x;
}

TEST_P(ConvTest, BatchesBeyondTheCachesGiveTheBitsOfEachImage) {
  std::mt19937 random(8);
  const Shape batch{7, 64, 112, 112}, one{1, 64, 112, 112};  // 22 MB in, 6 or as much out
  const Tensor weight = testing::random_tensor({64, 1, 3, 3}, random);
  for (const Layout layout : {Layout::kNHWC, Layout::kNCHW}) {
    const Tensor x = random_at_the_ends(batch, random, layout);
    for (const std::int64_t stride : {1, 2}) {
      Conv2dOptions options;
      options.padding = 1;
      options.stride = stride;
      const DepthwiseConv2d all(batch, weight.view(), {}, options, layout);
      const DepthwiseConv2d each(one, weight.view(), {}, options, layout);
      const Tensor y = all(x.view());
      const Conv2dInputGradient all_dx(batch, weight.view(), options, 64, layout);
      const Conv2dInputGradient each_dx(one, weight.view(), options, 64, layout);
      const Tensor dx = all_dx(y.view());
      for (const std::int64_t i : {0, 6}) {
        EXPECT_TRUE(same_bits(each(image(x, i)), in_layout(image(y, i), layout)));
        EXPECT_TRUE(same_bits(each_dx(image(y, i)), in_layout(image(dx, i), layout)));
      }
    }
  }
}

TEST_P(ConvTest, PointwiseBatchesBeyondTheCachesGiveTheBitsOfEachImage) {
  std::mt19937 random(9);
  const Shape batch{33, 16, 112, 112}, one{1, 16, 112, 112};  // 26 MB
  const Tensor weight = testing::random_tensor({16, 16, 1, 1}, random);
  const Tensor x = random_at_the_ends(batch, random, Layout::kNHWC);
  Conv2dOptions options;
  options.activation = ActivationKind::kRelu;
  const Tensor y = PointwiseConv2d(batch, weight.view(), {}, options, Layout::kNHWC)(x.view());
  const PointwiseConv2d each(one, weight.view(), {}, options, Layout::kNHWC);
  const Tensor dx = Conv2dInputGradient(batch, weight.view(), {}, 1, Layout::kNHWC)(x.view());
  const Conv2dInputGradient each_dx(one, weight.view(), {}, 1, Layout::kNHWC);
  for (const std::int64_t i : {0, 32}) {
    EXPECT_TRUE(same_bits(each(image(x, i)), in_layout(image(y, i), Layout::kNHWC)));
    EXPECT_TRUE(same_bits(each_dx(image(x, i)), in_layout(image(dx, i), Layout::kNHWC)));
  }
}

TEST_P(ConvTest, ClampAndResidualBeforeTheActivation) {
  std::mt19937 random(2);
  const Shape shape{1, 9, 4, 5};
  const Tensor weight = testing::random_tensor({7, 9, 1, 1}, random);
  const Tensor x = testing::random_tensor(shape, random, Layout::kNHWC);
  const Tensor add = testing::random_tensor({1, 7, 4, 5}, random, Layout::kNHWC);
  const PointwiseConv2d plain(shape, weight.view());
  const Tensor sums = plain(x.view());
  for (bool before : {false, true}) {
    Conv2dOptions options;
    options.activation = Activation::clamp(-0.5F, 0.25F);
    options.residual = true;
    options.residual_before_activation = before;
    const PointwiseConv2d op(shape, weight.view(), {}, options);
    Tensor y(op.output_shape(), Layout::kNHWC);
    const std::size_t bytes = op.workspace_bytes();
    const auto workspace = make_aligned<std::byte>(bytes);
    op.run(x.view(), add.view(), y.view(), {workspace.get(), bytes});
    for (std::int64_t i = 0; i < y.shape().elements(); ++i) {
      const float s = sums.data()[i], r = add.data()[i];
      const float expected =
          before ? std::clamp(s + r, -0.5F, 0.25F) : std::clamp(s, -0.5F, 0.25F) + r;
      EXPECT_EQ(y.data()[i], expected);
    }
  }
}

TEST_P(ConvTest, NansPassThroughEveryClamp) {
  std::mt19937 random(4);
  constexpr std::int64_t kChannels = 37;
  Tensor x = testing::random_tensor({1, kChannels, 5, 6}, random, Layout::kNHWC);
  testing::at(x.view(), 0, 7, 2, 3) = std::numeric_limits<float>::quiet_NaN();
  const Tensor pointwise = testing::random_tensor({40, kChannels, 1, 1}, random);
  const Tensor depthwise = testing::random_tensor({kChannels, 1, 3, 3}, random);
  for (const ActivationKind kind :
       {ActivationKind::kNone, ActivationKind::kRelu, ActivationKind::kRelu6}) {
    Conv2dOptions o;
    o.activation = kind;
    const Tensor mixed = PointwiseConv2d(x.shape(), pointwise.view(), {}, o)(x.view());
    o.padding = 1;
    const Tensor filtered = DepthwiseConv2d(x.shape(), depthwise.view(), {}, o)(x.view());
    for (std::int64_t h = 0; h < 5; ++h)
      for (std::int64_t w = 0; w < 6; ++w) {
        for (std::int64_t c = 0; c < 40; ++c) {
          EXPECT_EQ(std::isnan(testing::at(mixed.view(), 0, c, h, w)), h == 2 && w == 3);
        }
        for (std::int64_t c = 0; c < kChannels; ++c) {
          const bool reached = c == 7 && std::abs(h - 2) <= 1 && std::abs(w - 3) <= 1;
          EXPECT_EQ(std::isnan(testing::at(filtered.view(), 0, c, h, w)), reached);
        }
      }
  }
}

TEST_P(ConvTest, SlidesByTurnsWithTheSameBits) {
  std::mt19937 random(6);
  for (int i = 0; i < 60; ++i) {
    const std::int64_t channels = draw(random, 16, 40);
    const Shape shape{1, channels, draw(random, 3, 9), draw(random, 3, 23)};
    const Tensor weight = testing::random_tensor({channels, 1, 3, 3}, random);
    const Tensor bias = testing::random_tensor({channels}, random);
    const Tensor x = testing::random_tensor(shape, random, Layout::kNHWC);
    Conv2dOptions options;
    options.stride = draw(random, 1, 2);
    options.padding = draw(random, 0, 1);
    if (draw(random, 0, 1)) options.activation = ActivationKind::kRelu6;
    Tensor results[2];
    for (int core : {0, 1}) {
      assume_other_adders(core);
      results[core] = DepthwiseConv2d(shape, weight.view(), bias.view(), options)(x.view());
    }
    for (std::int64_t k = 0; k < results[0].shape().elements(); ++k) {
      ASSERT_EQ(results[0].data()[k], results[1].data()[k]) << to_string(shape) << ", " << k;
    }
  }
}

TEST_P(ConvTest, OneOpRunsOnManyThreadsAtOnce) {
  std::mt19937 random(3);
  const Tensor weight = testing::random_tensor({33, 1, 3, 3}, random);
  const DepthwiseConv2d op({1, 33, 40, 40}, weight.view());
  const Tensor x = testing::random_tensor({1, 33, 40, 40}, random, Layout::kNHWC);
  const Tensor expected = op(x.view());
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const Tensor y = op(x.view());
        wrong[t] += !std::equal(y.data(), y.data() + y.shape().elements(), expected.data());
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

INSTANTIATE_TEST_SUITE_P(Targets, ConvTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

TEST(Op, RefusesViewsThatDoNotFit) {
  const Tensor weight({4, 4});
  const PointwiseConv2d op({1, 4, 3, 3}, weight.view());
  Tensor x({1, 4, 3, 3}, Layout::kNHWC), y({1, 4, 3, 3}, Layout::kNHWC), other({1, 4, 3, 3});
  const std::size_t bytes = op.workspace_bytes();
  const auto workspace = make_aligned<std::byte>(bytes + 1);
  EXPECT_THROW(op.run(other.view(), y.view(), {workspace.get(), bytes}), ArgumentError);
  EXPECT_THROW(op.run(x.view(), y.view(), {workspace.get(), bytes - 1}), ArgumentError);
  EXPECT_THROW(op.run(x.view(), y.view(), {workspace.get() + 1, bytes}), ArgumentError);
  const TensorView integers(x.data(), x.shape(), dense_strides(x.shape(), Layout::kNHWC),
                            DType::kInt32);
  EXPECT_THROW(op.run(integers, y.view(), {workspace.get(), bytes}), TypeError);
}

}  // namespace
}  // namespace sepconv
