// Batch norm in training between guard pages against its definition in double, on every target.

#include "sepconv/batch_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/aligned.h"
#include "kernels/batch_norm.h"
#include "support/guarded.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

using testing::GuardedFloats;

struct Problem {
  Shape shape;
  Activation activation;
  std::size_t channels, pixels;
  GuardedFloats x, dy, weight, bias, y, dx, mean, variance, dweight, dbias;

  Problem(const Shape& s, const Activation& a, bool after, std::mt19937& random)
      : shape(s),
        activation(a),
        channels(static_cast<std::size_t>(s[1])),
        pixels(static_cast<std::size_t>(s.elements()) / channels),
        x(channels * pixels, after),
        dy(channels * pixels, after),
        weight(channels, after),
        bias(channels, after),
        y(channels * pixels, after),
        dx(channels * pixels, after),
        mean(channels, after),
        variance(channels, after),
        dweight(channels, after),
        dbias(channels, after) {
    for (auto* v : {&x, &dy}) testing::fill(v->data(), s.elements(), random);
    for (auto* v : {&weight, &bias}) testing::fill(v->data(), s[1], random);
    for (std::size_t i = 0; i < channels * pixels; ++i) x.data()[i] = 3 * x.data()[i] + 2;
  }

  void run(int threads) {
    const BatchNorm op(shape, activation, 1e-3F);
    const ThreadPool pool(threads);
    const std::size_t bytes = op.workspace_bytes(threads);
    const auto workspace = make_aligned<std::byte>(bytes);
    const auto image = [&](GuardedFloats& v) { return TensorView(v.data(), shape, Layout::kNHWC); };
    const auto row = [&](GuardedFloats& v) { return TensorView(v.data(), {shape[1]}); };
    op.run(image(x), row(weight), row(bias), image(y), row(mean), row(variance),
           {workspace.get(), bytes}, pool);
    op.run_backward(image(x), image(dy), row(weight), row(bias), row(mean), row(variance),
                    image(dx), row(dweight), row(dbias), {workspace.get(), bytes}, pool);
  }
};

void expect_definition(Problem& p) {
  const auto n = static_cast<double>(p.pixels);
  for (std::size_t c = 0; c < p.channels; ++c) {
    const auto at = [&](GuardedFloats& v, std::size_t i) {
      return static_cast<double>(v.data()[i * p.channels + c]);
    };
    double mean = 0, variance = 0, largest = 0;
    for (std::size_t i = 0; i < p.pixels; ++i) mean += at(p.x, i) / n;
    for (std::size_t i = 0; i < p.pixels; ++i) {
      variance += std::pow(at(p.x, i) - mean, 2) / n;
      largest = std::max(largest, std::abs(at(p.x, i)));
    }
    const double inverse = 1 / std::sqrt(variance + static_cast<double>(1e-3F));
    const double weight = static_cast<double>(p.weight.data()[c]);
    const double bias = static_cast<double>(p.bias.data()[c]);
    double sum = 0, products = 0, size = 0;
    std::vector<double> g(p.pixels);
    // x has an error of its own size before it is scaled.
    const double unit = 0x1p-23,
                 z_error = 4 * unit * (largest * std::abs(weight) * inverse + std::abs(bias));
    for (std::size_t i = 0; i < p.pixels; ++i) {
      const double normal = (at(p.x, i) - mean) * inverse;
      const auto [value, slope] = testing::activated(p.activation.kind, normal * weight + bias);
      // No activation's slope is above 1.13.
      EXPECT_NEAR(at(p.y, i), value, 2 * z_error + 8 * unit * std::abs(value)) << c << ", " << i;
      g[i] = at(p.dy, i) * slope;
      sum += g[i];
      products += g[i] * normal;
      size += std::abs(at(p.dy, i)) * (1 + std::abs(normal));
    }
    // Every term's error: its own, and its slope's, which changes by at most 1 per unit of z.
    const double sum_error = size * (static_cast<double>(p.pixels) * unit + 2 * z_error);
    EXPECT_NEAR(p.mean.data()[c], mean, n * unit * largest);
    EXPECT_NEAR(p.variance.data()[c], variance, 2 * n * unit * (variance + unit * largest));
    EXPECT_NEAR(p.dbias.data()[c], sum, sum_error) << c;
    EXPECT_NEAR(p.dweight.data()[c], products, sum_error * 2) << c;
    for (std::size_t i = 0; i < p.pixels; ++i) {
      const double normal = (at(p.x, i) - mean) * inverse;
      const double expected = weight * inverse * (g[i] - sum / n - normal * products / n);
      const double limit =
          std::abs(weight) * inverse * (sum_error * (1 + std::abs(normal)) * 4 / n + 8 * z_error);
      EXPECT_NEAR(at(p.dx, i), expected, limit + 16 * unit * std::abs(expected)) << c << ", " << i;
    }
  }
}

class BatchNormTest : public testing::EachTarget {};

TEST_P(BatchNormTest, IsItsDefinitionForwardAndBackward) {
  std::mt19937 random(1);
  for (const ActivationKind kind : testing::kActivations) {
    for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{1, 16, 3, 3}, Shape{3, 37, 7, 5},
                               Shape{1, 70, 30, 31}, Shape{1, 5, 1, 1}}) {
      for (const bool after : {false, true}) {
        Problem p(shape, kind, after, random);
        p.run(1);
        expect_definition(p);
        if (HasFailure()) FAIL() << to_string(Activation(kind)) << " " << to_string(shape);
      }
    }
  }
}

TEST_P(BatchNormTest, SameBitsForAnyNumberOfThreads) {
  std::mt19937 random(2);
  Problem p({3, 130, 21, 17}, ActivationKind::kSilu, false, random);
  p.run(1);
  const auto copy = [](GuardedFloats& v, std::size_t n) {
    return std::vector<float>(v.data(), v.data() + n);
  };
  const std::size_t all = p.channels * p.pixels;
  const auto y = copy(p.y, all), dx = copy(p.dx, all), dweight = copy(p.dweight, p.channels);
  for (const int threads : {2, 5}) {
    p.run(threads);
    EXPECT_EQ(copy(p.y, all), y);
    EXPECT_EQ(copy(p.dx, all), dx);
    EXPECT_EQ(copy(p.dweight, p.channels), dweight);
  }
}

// As images do that are larger than the caches.
TEST_P(BatchNormTest, StoresTheSameBitsPastTheCaches) {
  std::mt19937 random(3);
  constexpr std::size_t kChannels = 48, kPixels = 7;
  const auto floats = [&] {
    auto values = make_aligned<float>(kChannels * kPixels);
    testing::fill(values.get(), kChannels * kPixels, random);
    return values;
  };
  const auto x = floats(), dy = floats(), by_channel = floats();
  for (const ActivationKind kind :
       {ActivationKind::kRelu6, ActivationKind::kSilu, ActivationKind::kHardSwish}) {
    BatchNormPixels pixels{};
    pixels.x = x.get();
    pixels.dy = dy.get();
    pixels.pixels = kPixels;
    pixels.channels = kChannels;
    pixels.scale = by_channel.get();
    pixels.shift = by_channel.get() + kChannels;
    pixels.mean = by_channel.get() + 2 * kChannels;
    pixels.activation = Epilogue(kind);
    const float *slope = pixels.mean + kChannels, *level = slope + kChannels;
    std::vector<std::vector<float>> results;
    for (const bool streams : {false, true}) {
      pixels.streams = streams;
      const auto y = floats(), dx = floats();
      batch_norm_kernels().normalize(pixels, y.get());
      batch_norm_kernels().input_gradient(pixels, slope, level, dx.get());
      results.emplace_back(y.get(), y.get() + kChannels * kPixels);
      results.back().insert(results.back().end(), dx.get(), dx.get() + kChannels * kPixels);
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, BatchNormTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

TEST(BatchNorm, RefusesWhatItCannotDo) {
  EXPECT_THROW(BatchNorm({0, 3, 4, 4}, {}, 1e-5F), ArgumentError);
  EXPECT_THROW(BatchNorm({3, 4, 4}, {}, 1e-5F), ArgumentError);
  EXPECT_THROW(BatchNorm({1, 3, 4, 4}, {}, -1.0F), ArgumentError);
}

}  // namespace
}  // namespace sepconv
