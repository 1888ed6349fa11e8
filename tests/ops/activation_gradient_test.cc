// Gradients through activations and to biases, against their definition in double, on every target.

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/aligned.h"
#include "sepconv/gradients.h"
#include "support/guarded.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

using testing::GuardedFloats;

struct Problem {
  Shape shape;
  Layout layout;
  std::size_t channels, plane, all;
  GuardedFloats z, dy, dz, dbias;

  Problem(const Shape& s, Layout l, bool after, std::mt19937& random)
      : shape(s),
        layout(l),
        channels(static_cast<std::size_t>(s[1])),
        plane(static_cast<std::size_t>(s[2] * s[3])),
        all(static_cast<std::size_t>(s.elements())),
        z(all, after),
        dy(all, after),
        dz(all, after),
        dbias(channels, after) {
    for (auto* v : {&z, &dy}) testing::fill(v->data(), s.elements(), random);
    // Where activations have corners too.
    constexpr float kCorners[] = {0.0F, -0.0F, 3.0F, -3.0F, 6.0F, 25.0F, -25.0F, 100.0F, -100.0F};
    for (std::size_t i = 0; i < all; ++i) {
      z.data()[i] = i % 5 == 0 ? kCorners[i / 5 % 9] : 5 * z.data()[i];
    }
  }

  std::size_t channel(std::size_t i) const {
    return layout == Layout::kNHWC ? i % channels : i / plane % channels;
  }

  void run(const Activation& activation, int threads) {
    const ActivationGradient op(shape, activation, layout);
    const ThreadPool pool(threads);
    const std::size_t bytes = op.workspace_bytes(threads);
    const auto workspace = make_aligned<std::byte>(bytes);
    const auto image = [&](GuardedFloats& v) { return TensorView(v.data(), shape, layout); };
    op.run(image(z), image(dy), image(dz), TensorView(dbias.data(), {shape[1]}),
           {workspace.get(), bytes}, pool);
  }
};

void expect_definition(Problem& p, ActivationKind kind) {
  constexpr double kUnit = 0x1p-24;
  std::vector<double> sums(p.channels), sizes(p.channels);
  for (std::size_t i = 0; i < p.all; ++i) {
    const double z = p.z.data()[i], dy = p.dy.data()[i];
    const double slope = testing::activated(kind, z).second;
    // sigmoid, erf and exp are good to 2 ulp; products and sums of no more than two of them follow.
    const double limit = 16 * kUnit * std::abs(dy) * (1 + std::min(std::abs(z), 4.0));
    if (kind != ActivationKind::kNone) {
      EXPECT_NEAR(p.dz.data()[i], dy * slope, limit) << z;
    }
    sums[p.channel(i)] += dy * slope;
    sizes[p.channel(i)] += std::abs(dy * slope) * 2 * kUnit * static_cast<double>(p.plane) + limit;
  }
  for (std::size_t c = 0; c < p.channels; ++c) {
    EXPECT_NEAR(p.dbias.data()[c], sums[c], sizes[c] + kUnit * std::abs(sums[c])) << c;
  }
}

class ActivationGradientTest : public testing::EachTarget {};

TEST_P(ActivationGradientTest, IsItsDefinition) {
  std::mt19937 random(1);
  for (const ActivationKind kind : testing::kActivations) {
    for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{1, 16, 3, 3}, Shape{3, 37, 7, 5},
                               Shape{1, 70, 30, 31}, Shape{1, 5, 1, 1}}) {
      for (const Layout layout : {Layout::kNHWC, Layout::kNCHW}) {
        for (const bool after : {false, true}) {
          Problem p(shape, layout, after, random);
          p.run(kind, 1);
          expect_definition(p, kind);
          if (HasFailure()) FAIL() << to_string(Activation(kind)) << " " << to_string(shape);
        }
      }
    }
  }
}

TEST_P(ActivationGradientTest, SameBitsForAnyNumberOfThreads) {
  std::mt19937 random(2);
  for (const Layout layout : {Layout::kNHWC, Layout::kNCHW}) {
    Problem p({3, 130, 21, 17}, layout, false, random);
    p.run(ActivationKind::kSilu, 1);
    const auto copy = [&] {
      std::vector<float> values(p.dz.data(), p.dz.data() + p.all);
      values.insert(values.end(), p.dbias.data(), p.dbias.data() + p.channels);
      return values;
    };
    const auto once = copy();
    for (const int threads : {2, 5}) {
      p.run(ActivationKind::kSilu, threads);
      EXPECT_EQ(copy(), once);
    }
  }
}

// What comes out of a clamp tells its gradient as well as what went in.
TEST_P(ActivationGradientTest, OfAClampFromItsResult) {
  std::mt19937 random(3);
  for (const ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kRelu6}) {
    Problem p({1, 9, 6, 7}, Layout::kNHWC, true, random);
    p.run(kind, 1);
    const std::vector<float> from_input(p.dz.data(), p.dz.data() + p.all);
    for (std::size_t i = 0; i < p.all; ++i) {
      p.z.data()[i] = static_cast<float>(testing::activated(kind, p.z.data()[i]).first);
    }
    p.run(kind, 1);
    EXPECT_EQ(std::vector<float>(p.dz.data(), p.dz.data() + p.all), from_input);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ActivationGradientTest,
                         ::testing::ValuesIn(testing::built_targets()), testing::target_name);

TEST(ActivationGradient, RefusesWhatItCannotDo) {
  EXPECT_THROW(ActivationGradient({3, 4, 4}, ActivationKind::kRelu), ArgumentError);
  const ActivationGradient op({1, 2, 3, 3}, ActivationKind::kRelu);
  std::vector<float> image(18), row(2);
  const TensorView x(image.data(), {1, 2, 3, 3}, Layout::kNHWC), b(row.data(), {2});
  EXPECT_THROW(op.run(x, x, x, b, {}), ArgumentError);
  const auto workspace = make_aligned<std::byte>(op.workspace_bytes());
  const std::span<std::byte> space(workspace.get(), op.workspace_bytes());
  EXPECT_THROW(op.run(x, TensorView(image.data(), {1, 2, 3, 3}), x, b, space), ArgumentError);
  EXPECT_THROW(op.run({}, x, x, b, space), Error);
}

}  // namespace
}  // namespace sepconv
