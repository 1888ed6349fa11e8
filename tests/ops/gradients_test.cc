// Gradients between guard pages against the definition as nested loops in double, on every target.

#include "sepconv/gradients.h"

#include <gtest/gtest.h>

#include "base/aligned.h"
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
  Layout layout;
};

std::int64_t draw(std::mt19937& random, std::int64_t lo, std::int64_t hi) {
  return std::uniform_int_distribution<std::int64_t>(lo, hi)(random);
}

Case draw_case(std::mt19937& random, bool depthwise) {
  Case c;
  c.layout = draw(random, 0, 2) ? Layout::kNHWC : Layout::kNCHW;
  // Half of them less than or about a vector.
  const std::int64_t channels = draw(random, 1, draw(random, 0, 1) ? 18 : 70);
  const std::int64_t height = draw(random, 1, 19), width = draw(random, 1, 19);
  c.x = {draw(random, 0, 3), channels, height, width};
  c.groups = 1;
  c.weight = {draw(random, 1, 70), channels, 1, 1};
  if (!depthwise) return c;
  const std::int64_t kh = draw(random, 1, 8), kw = draw(random, 0, 2) ? kh : draw(random, 1, 8);
  c.groups = channels;
  c.weight = {channels, 1, kh, kw};
  c.options.stride = {draw(random, 1, 3), draw(random, 1, 3)};
  if (draw(random, 0, 2)) c.options.stride = c.options.stride.height;
  if (!draw(random, 0, 3)) c.options.dilation = {draw(random, 1, 2), draw(random, 1, 2)};
  const auto pad = [&](std::int64_t size, std::int64_t k, std::int64_t dilation) {
    const std::int64_t extent = (k - 1) * dilation + 1;
    return std::max(draw(random, 0, extent / 2), (extent - size + 1) / 2);
  };
  const std::int64_t rows = pad(height, kh, c.options.dilation.height);
  const std::int64_t columns = pad(width, kw, c.options.dilation.width);
  c.options.padding = {rows, rows, columns, columns};
  return c;
}

// Sums of products and of their magnitudes, and how many there are.
struct Sums {
  std::vector<double> value, magnitude;
  std::vector<std::int64_t> count;

  explicit Sums(const Shape& shape)
      : value(static_cast<std::size_t>(shape.elements())),
        magnitude(value.size()),
        count(value.size()) {}
  void add(std::int64_t at, double a, double b) {
    const auto i = static_cast<std::size_t>(at);
    value[i] += a * b;
    magnitude[i] += std::abs(a * b);
    ++count[i];
  }
};

// Every product of the convolution, into the sums of both gradients, in NCHW order.
void differentiate(const Case& c, const TensorView& x, const TensorView& weight,
                   const TensorView& dy, Sums& dx, Sums& dw) {
  const Shape &w = c.weight, &out = dy.shape();
  const std::int64_t per_group = w[0] / c.groups;
  const Conv2dOptions& o = c.options;
  for (std::int64_t n = 0; n < out[0]; ++n)
    for (std::int64_t q = 0; q < out[1]; ++q)
      for (std::int64_t i = 0; i < out[2]; ++i)
        for (std::int64_t j = 0; j < out[3]; ++j)
          for (std::int64_t k = 0; k < w[1]; ++k)
            for (std::int64_t u = 0; u < w[2]; ++u)
              for (std::int64_t v = 0; v < w[3]; ++v) {
                const std::int64_t h = i * o.stride.height + u * o.dilation.height - o.padding.top;
                const std::int64_t l = j * o.stride.width + v * o.dilation.width - o.padding.left;
                if (h < 0 || h >= c.x[2] || l < 0 || l >= c.x[3]) continue;
                const std::int64_t channel = q / per_group * w[1] + k;
                const double g = static_cast<double>(testing::at(dy, n, q, i, j));
                dx.add(((n * c.x[1] + channel) * c.x[2] + h) * c.x[3] + l, g,
                       static_cast<double>(testing::at(weight, q, k, u, v)));
                dw.add(((q * w[1] + k) * w[2] + u) * w[3] + v, g,
                       static_cast<double>(testing::at(x, n, channel, h, l)));
              }
}

void expect_near(const TensorView& got, const Sums& exact, const std::string& what) {
  const Shape& s = got.shape();
  std::size_t i = 0;
  for (std::int64_t n = 0; n < s[0]; ++n)
    for (std::int64_t c = 0; c < s[1]; ++c)
      for (std::int64_t h = 0; h < s[2]; ++h)
        for (std::int64_t w = 0; w < s[3]; ++w, ++i) {
          ASSERT_NEAR(testing::at(got, n, c, h, w), exact.value[i],
                      testing::bound(exact.magnitude[i], exact.count[i] + 1))
              << what;
        }
}

void check(const Case& c, bool after, std::mt19937& random) {
  const Tensor weight = testing::random_tensor(c.weight, random);
  const Conv2dInputGradient to_input(c.x, weight.view(), c.options, c.groups, c.layout);
  const Conv2dWeightGradient to_weight(c.x, c.weight, c.options, c.groups, c.layout);
  const Shape& out = to_input.input_shape();
  ASSERT_EQ(out, to_weight.output_shape());
  const auto floats = [&](const Shape& shape) {
    return GuardedFloats(static_cast<std::size_t>(shape.elements()), after);
  };
  GuardedFloats x = floats(c.x), dy = floats(out), dx = floats(c.x), dw = floats(c.weight);
  testing::fill(x.data(), c.x.elements(), random);
  testing::fill(dy.data(), out.elements(), random);
  const TensorView in(x.data(), c.x, c.layout), gradient(dy.data(), out, c.layout);
  const TensorView in_gradient(dx.data(), c.x, c.layout);
  const TensorView weight_gradient(dw.data(), c.weight, Layout::kNCHW);
  const std::size_t bytes = std::max(to_input.workspace_bytes(), to_weight.workspace_bytes());
  const auto workspace = make_aligned<std::byte>(bytes);
  to_input.run(gradient, in_gradient, {workspace.get(), bytes});
  to_weight.run(in, gradient, weight_gradient, {workspace.get(), bytes});
  Sums exact_dx(c.x), exact_dw(c.weight);
  differentiate(c, in, weight.view(), gradient, exact_dx, exact_dw);
  expect_near(in_gradient, exact_dx, to_input.describe());
  expect_near(weight_gradient, exact_dw, to_weight.describe());
  static const ThreadPool one(1), two(2);
  std::vector<float> first_dw;
  for (const ThreadPool* pool : {&one, &two}) {
    const int threads = pool->threads();
    const Conv2dGradients both(c.x, weight.view(), c.options, c.groups, c.layout);
    GuardedFloats dx2 = floats(c.x), dw2 = floats(c.weight);
    const std::size_t room = both.workspace_bytes(threads);
    const auto space = make_aligned<std::byte>(room);
    both.run(in, gradient, TensorView(dx2.data(), c.x, c.layout), TensorView(dw2.data(), c.weight),
             {space.get(), room}, *pool);
    ASSERT_TRUE(std::equal(dx2.data(), dx2.data() + c.x.elements(), dx.data()))
        << to_input.describe() << " on " << threads;
    expect_near(TensorView(dw2.data(), c.weight), exact_dw, to_weight.describe());
    std::vector<float> got(dw2.data(), dw2.data() + c.weight.elements());
    if (first_dw.empty()) first_dw = got;
    ASSERT_EQ(got, first_dw) << to_weight.describe() << " on " << threads;
  }
}

// Windows that have kernels of their own, in both layouts, with less than a vector of channels too.
Case draw_square_case(std::mt19937& random) {
  Case c = draw_case(random, true);
  const std::int64_t k = 3 + 2 * draw(random, 0, 2), pad = draw(random, 0, k - 1);
  c.layout = draw(random, 0, 1) ? Layout::kNHWC : Layout::kNCHW;
  c.weight = {c.x[1], 1, k, k};
  c.x = {c.x[0], c.x[1], std::max(c.x[2], k - 2 * pad), std::max(c.x[3], k - 2 * pad)};
  c.options = {};
  c.options.stride = draw(random, 1, 2);
  c.options.padding = {pad, draw(random, pad, k - 1), pad, draw(random, pad, k - 1)};
  return c;
}

class GradientTest : public testing::EachTarget {};

TEST_P(GradientTest, StaysInsideItsTensorsAndTheBound) {
  std::mt19937 random(1);
  for (int i = 0; i < 120 && !HasFatalFailure(); ++i) {
    check(draw_case(random, i % 3 > 0), i % 2, random);
  }
}

TEST_P(GradientTest, SquareWindowsOfEitherLayout) {
  std::mt19937 random(4);
  for (int i = 0; i < 80 && !HasFatalFailure(); ++i) check(draw_square_case(random), i % 2, random);
}

// One kernel computes both, a vector of channels at a time.
TEST_P(GradientTest, BothInOnePass) {
  std::mt19937 random(3);
  for (const std::int64_t channels : {16, 37, 70}) {
    for (const std::int64_t pad : {0, 1, 2, 4}) {
      for (const Shape& x : {Shape{1, channels, 3, 3}, Shape{3, channels, 7, 10}}) {
        Case c{x, {channels, 1, 3, 3}, {}, channels, Layout::kNHWC};
        c.options.padding = Padding{pad, pad + 1, pad, pad / 2};
        check(c, pad % 2, random);
      }
    }
  }
}

TEST_P(GradientTest, SameBitsForAnyNumberOfThreads) {
  std::mt19937 random(2);
  for (const bool depthwise : {true, false}) {
    const Shape shape{3, 70, 15, 13};
    const std::int64_t groups = depthwise ? 70 : 1;
    const Shape w = depthwise ? Shape{70, 1, 3, 3} : Shape{40, 70, 1, 1};
    Conv2dOptions options;
    options.padding = depthwise ? 1 : 0;
    const Conv2dWeightGradient op(shape, w, options, groups);
    const Tensor x = testing::random_tensor(shape, random, Layout::kNHWC);
    const Tensor dy = testing::random_tensor(op.output_shape(), random, Layout::kNHWC);
    std::vector<Tensor> results;
    for (int threads = 1; threads <= 5; threads += 2) {
      const ThreadPool pool(threads);
      const std::size_t bytes = op.workspace_bytes(threads);
      const auto workspace = make_aligned<std::byte>(bytes);
      results.emplace_back(w);
      op.run(x.view(), dy.view(), results.back().view(), {workspace.get(), bytes}, pool);
    }
    for (const Tensor& other : results) {
      EXPECT_TRUE(std::equal(other.data(), other.data() + w.elements(), results[0].data()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, GradientTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

TEST(Conv2dWeightGradient, RefusesDenseWindows) {
  EXPECT_THROW(Conv2dWeightGradient({1, 4, 5, 5}, {4, 4, 3, 3}, {}, 1), ArgumentError);
  EXPECT_THROW(Conv2dWeightGradient({1, 4, 5, 5}, {8, 1, 3, 3}, {}, 4), ArgumentError);
  Conv2dOptions strided;
  strided.stride = 2;
  EXPECT_THROW(Conv2dWeightGradient({1, 4, 5, 5}, {4, 4, 1, 1}, strided, 1), ArgumentError);
}

}  // namespace
}  // namespace sepconv
