// What only products on AMX can get wrong, with the tile instructions emulated; that they stay
// within the bound is tested with all other kernels.

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/aligned.h"
#include "ops/amx_product.h"
#include "sepconv/ops.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class AmxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::machine_has("AVX3"))
      GTEST_SKIP() << "AMX is used above AVX3 only, which this machine lacks";
    set_target("AVX3");
  }
  void TearDown() override {
    emulate_amx(nullptr);
    set_target("");
  }

  // Random pixels, without one that is zero by chance.
  Tensor pixels(std::int64_t channels, std::int64_t height, std::int64_t width) {
    return testing::random_tensor({1, channels, height, width}, random, Layout::kNHWC);
  }
  Tensor by_fma(const TensorView& x, const Tensor& weight) {
    emulate_amx(nullptr);
    return PointwiseConv2d(x.shape(), weight.view(), {}, {}, Layout::kNHWC)(x);
  }
  Tensor by_amx(const TensorView& x, const Tensor& weight) {
    emulate_amx(&testing::kEmulatedAmx);
    const PointwiseConv2d op(x.shape(), weight.view(), {}, {}, Layout::kNHWC);
    EXPECT_NE(op.describe().find("amx 32x32 bf16x3"), std::string::npos) << op.describe();
    return op(x);
  }
  static bool same_bits(const float* a, const float* b, std::int64_t n) {
    return std::memcmp(a, b, static_cast<std::size_t>(n) * sizeof(float)) == 0;
  }

  std::mt19937 random{7};
};

// A pixel with such values has the bits that FMA gives it, and its neighbours have their own.
TEST_F(AmxTest, InfinitiesNansAndDenormalsGoTheirOwnWay) {
  constexpr std::int64_t kIn = 300, kOut = 40, kPixels = 50;
  const Tensor weight = testing::random_tensor({kOut, kIn, 1, 1}, random);
  Tensor x = pixels(kIn, 5, 10);
  const Tensor plain = by_amx(x.view(), weight);
  const std::vector<std::int64_t> special = {0, 17, 18, 31, 49};
  x.data()[0 * kIn + 5] = kInfinity;
  x.data()[17 * kIn + 299] = -kInfinity;
  x.data()[18 * kIn] = std::numeric_limits<float>::quiet_NaN();
  for (std::int64_t k = 0; k < kIn; ++k) x.data()[31 * kIn + k] *= 1e-40F;
  for (std::int64_t k = 0; k < kIn; ++k) x.data()[49 * kIn + k] *= 1e-32F;
  const Tensor amx = by_amx(x.view(), weight), fma = by_fma(x.view(), weight);
  for (std::int64_t p = 0; p < kPixels; ++p) {
    const bool odd = std::find(special.begin(), special.end(), p) != special.end();
    const Tensor& expected = odd ? fma : plain;
    EXPECT_TRUE(same_bits(amx.data() + p * kOut, expected.data() + p * kOut, kOut)) << p;
  }
  EXPECT_TRUE(std::isinf(amx.data()[0]));
  EXPECT_TRUE(std::isnan(amx.data()[18 * kOut]));
  EXPECT_NE(amx.data()[31 * kOut], 0.0F);
}

// So has a panel of weights, here the second.
TEST_F(AmxTest, WeightsThatDoNotSplitWellTakeTheirPanelAlong) {
  constexpr std::int64_t kIn = 64, kOut = 96, kPixels = 40;
  for (const float value : {kInfinity, std::numeric_limits<float>::quiet_NaN(), 1e-40F}) {
    Tensor weight = testing::random_tensor({kOut, kIn, 1, 1}, random);
    const Tensor x = pixels(kIn, 4, 10);
    const Tensor plain = by_amx(x.view(), weight);
    std::fill_n(weight.data() + 40 * kIn, kIn, value);
    const Tensor amx = by_amx(x.view(), weight), fma = by_fma(x.view(), weight);
    for (std::int64_t p = 0; p < kPixels; ++p) {
      const float *got = amx.data() + p * kOut, *other = plain.data() + p * kOut;
      EXPECT_TRUE(same_bits(got, other, 32));
      EXPECT_TRUE(same_bits(got + 32, fma.data() + p * kOut + 32, 32));
      EXPECT_TRUE(same_bits(got + 64, other + 64, 32));
    }
  }
}

// Whatever the other rows of a tile, a call or a thread's share are.
TEST_F(AmxTest, APixelsBitsAreItsOwn) {
  constexpr std::int64_t kIn = 280, kOut = 64, kWidth = 9;
  const Tensor weight = testing::random_tensor({kOut, kIn, 3, 3}, random);
  const Tensor x = pixels(kIn, 12, kWidth);
  emulate_amx(&testing::kEmulatedAmx);
  Conv2dOptions options;
  options.stride = 2;
  const Conv2d whole_op(x.shape(), weight.view(), {}, options, 1, Layout::kNHWC);
  const Tensor whole = whole_op(x.view());
  for (const int threads : {2, 3, 7}) {
    Tensor y(whole.shape(), Layout::kNHWC);
    const ThreadPool pool(threads);
    const std::size_t bytes = whole_op.workspace_bytes(threads);
    const auto workspace = make_aligned<std::byte>(bytes);
    whole_op.run(x.view(), y.view(), {workspace.get(), bytes}, pool);
    EXPECT_TRUE(same_bits(y.data(), whole.data(), y.shape().elements())) << threads;
  }
  for (std::int64_t rows = 3; rows < 12; rows += 2) {
    const TensorView top(const_cast<float*>(x.data()), {1, kIn, rows, kWidth}, Layout::kNHWC);
    const Tensor y = Conv2d(top.shape(), weight.view(), {}, options, 1, Layout::kNHWC)(top);
    EXPECT_TRUE(same_bits(y.data(), whole.data(), y.shape().elements())) << rows;
  }
}

// Three parts lose no more than float32's own rounding does.
TEST_F(AmxTest, IsAsAccurateAsFma) {
  for (const std::int64_t in : {32, 500, 2000}) {
    const Tensor weight = testing::random_tensor({64, in, 1, 1}, random);
    const Tensor x = pixels(in, 8, 8);
    const Tensor amx = by_amx(x.view(), weight), fma = by_fma(x.view(), weight);
    const testing::Exact exact =
        testing::convolve(x.view(), weight.view(), nullptr, {}, 1, amx.shape());
    double amx_error = 0, fma_error = 0;
    for (std::size_t i = 0; i < exact.value.size(); ++i) {
      const auto n = static_cast<std::int64_t>(i);
      const std::int64_t at = n % 64 * 64 + n / 64;  // exact is NCHW
      const double unit = exact.magnitude[i] * 0x1p-23;
      amx_error = std::max(amx_error, std::abs(amx.data()[at] - exact.value[i]) / unit);
      fma_error = std::max(fma_error, std::abs(fma.data()[at] - exact.value[i]) / unit);
    }
    EXPECT_LT(amx_error, 1.5 * fma_error + 0.5) << in;
  }
}

// By the costs of a real processor.
TEST_F(AmxTest, IsChosenWhereItPays) {
  AmxKernels real = testing::kEmulatedAmx;
  real.costs = {.multiply = 130, .split = 120, .finish = 80};
  emulate_amx(&real);
  EXPECT_TRUE(AmxSet::choose(196, 576, 96));
  EXPECT_TRUE(AmxSet::choose(196, 96, 384));
  EXPECT_TRUE(AmxSet::choose(49, 160, 960));
  EXPECT_FALSE(AmxSet::choose(1, 1000, 1280)) << "weights are read for one row";
  EXPECT_FALSE(AmxSet::choose(12544, 32, 27)) << "little to multiply with";
  EXPECT_FALSE(AmxSet::choose(3136, 16, 96)) << "few columns to share the splitting";
  emulate_amx(nullptr);
  EXPECT_FALSE(AmxSet::choose(196, 576, 96)) << "capped to AVX3";
  set_target("");
  EXPECT_EQ(AmxSet::choose(196, 576, 96).has_value(), testing::machine_has("AMX"));
}

}  // namespace
}  // namespace sepconv
