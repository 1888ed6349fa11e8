#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "support/nodes.h"

namespace sepconv {
namespace {

// Nodes of a few operations for each element, and products of matrices.
class ArithmeticNodesTest : public testing::Nodes {
 protected:
  // Calls check(n, c, h, w) for every element of a shape.
  static void each(
      const Shape& s,
      const std::function<void(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>& check) {
    for (std::int64_t i = 0; i < s.elements(); ++i) {
      check(i / (s[1] * s[2] * s[3]), i / (s[2] * s[3]) % s[1], i / s[3] % s[2], i % s[3]);
    }
  }
};

TEST_P(ArithmeticNodesTest, PReluHasASlopeForEachChannel) {
  const Tensor x = input({2, 19, 3, 5});
  const Constant slope = constant({19});
  Graph graph;
  graph.add("prelu", PReluNode{slope}, {0});
  const Tensor y = run(graph, x);
  each(x.shape(), [&](auto n, auto c, auto h, auto w) {
    const float v = testing::at(x.view(), n, c, h, w);
    EXPECT_EQ(testing::at(y.view(), n, c, h, w), v < 0 ? v * slope->data()[c] : v);
  });
}

TEST_P(ArithmeticNodesTest, DividesAndTakesAMapTimes) {
  const Tensor x = input({2, 11, 4, 3});
  const Constant map = constant({11, 4, 3});
  Graph graph;
  const ValueId gate = graph.add("gate", ActivationNode{ActivationKind::kSigmoid}, {0});
  const ValueId ratio = graph.add("ratio", DivideNode{}, {0, gate});
  graph.add("map", MultiplyMapNode{map}, {ratio});
  const Tensor y = run(graph, x);
  each(x.shape(), [&](auto n, auto c, auto h, auto w) {
    const double v = at(x, n, c, h, w);
    const double exact = v * (1 + std::exp(-v)) * double(map->data()[(c * 4 + h) * 3 + w]);
    EXPECT_NEAR(at(y, n, c, h, w), exact, 16 * 0x1p-24 * std::abs(exact));
  });
}

TEST_P(ArithmeticNodesTest, ChoosesByAMap) {
  Tensor x = input({2, 19, 4, 3});
  x.data()[5] = INFINITY;
  x.data()[6] = -INFINITY;
  auto map = std::make_shared<Tensor>(Shape{19, 4, 3});
  for (std::int64_t i = 0; i < map->shape().elements(); ++i) map->data()[i] = float(i % 3 != 0);
  Graph graph;
  const ValueId other = graph.add("abs", FunctionNode{Function::kAbs}, {0});
  graph.add("choose", ChooseNode{map}, {0, other});
  const Tensor y = run(graph, x);
  each(y.shape(), [&](auto n, auto c, auto h, auto w) {
    const float v = testing::at(x.view(), n, c, h, w);
    const bool first = map->data()[(c * 4 + h) * 3 + w] != 0;
    EXPECT_EQ(testing::at(y.view(), n, c, h, w), first ? v : std::abs(v));
  });
}

TEST_P(ArithmeticNodesTest, PicksRowsInAnyOrder) {
  const Tensor x = input({2, 19, 6, 3});
  const PickNode pick{{5, 0, 0, 3, 2, 5, 1}};
  Graph graph;
  const ValueId gate = graph.add("relu", ActivationNode{ActivationKind::kRelu}, {0});
  graph.add("pick", pick, {gate});
  const Tensor y = run(graph, x);
  ASSERT_EQ(y.shape(), Shape({2, 19, 7, 3}));
  each(y.shape(), [&](auto n, auto c, auto h, auto w) {
    const float from = testing::at(x.view(), n, c, pick.order[std::size_t(h)], w);
    EXPECT_EQ(testing::at(y.view(), n, c, h, w), std::max(from, 0.0F));
  });
}

TEST_P(ArithmeticNodesTest, PicksChannelsInAnyOrder) {
  const Tensor x = input({2, 19, 6, 3});
  const PickNode pick{{18, 0, 0, 3, 17, 5, 1}, true};
  Graph graph;
  const ValueId gate = graph.add("relu", ActivationNode{ActivationKind::kRelu}, {0});
  graph.add("pick", pick, {gate});
  const Tensor y = run(graph, x);
  ASSERT_EQ(y.shape(), Shape({2, 7, 6, 3}));
  each(y.shape(), [&](auto n, auto c, auto h, auto w) {
    const float from = testing::at(x.view(), n, pick.order[std::size_t(c)], h, w);
    EXPECT_EQ(testing::at(y.view(), n, c, h, w), std::max(from, 0.0F));
  });
}

TEST_P(ArithmeticNodesTest, AConstantIsTheSameForEveryImage) {
  const Tensor x = input({3, 2, 5, 5});
  const Constant map = constant({19, 4, 3}), other = constant({7, 4, 3});
  Graph graph;
  const ValueId whole = graph.add("whole", ConstantNode{map}, {0});
  const ValueId rest = graph.add("rest", ConstantNode{other}, {0});
  graph.add("both", ConcatNode{}, {whole, rest});
  const Tensor y = run(graph, x);
  ASSERT_EQ(y.shape(), Shape({3, 26, 4, 3}));
  each(y.shape(), [&](auto n, auto c, auto h, auto w) {
    const float* from = c < 19 ? map->data() + c * 12 : other->data() + (c - 19) * 12;
    EXPECT_EQ(testing::at(y.view(), n, c, h, w), from[h * 3 + w]);
  });
}

TEST_P(ArithmeticNodesTest, TakesTheLargerOfTwo) {
  const Tensor x = input({2, 21, 3, 5});
  Graph graph;
  const ValueId other = graph.add("mish", ActivationNode{ActivationKind::kMish}, {0});
  const ValueId slower = graph.add("tanh", ActivationNode{ActivationKind::kTanh}, {0});
  graph.add("larger", MaximumNode{}, {other, slower});
  const Tensor y = run(graph, x);
  each(x.shape(), [&](auto n, auto c, auto h, auto w) {
    const double v = at(x, n, c, h, w), t = std::tanh(std::log1p(std::exp(v)));
    EXPECT_NEAR(at(y, n, c, h, w), std::max(v * t, std::tanh(v)), 8 * 0x1p-24 * std::abs(v));
  });
}

TEST_P(ArithmeticNodesTest, FunctionsAreWithinTheirBounds) {
  struct Case {
    Function function;
    double (*exact)(double);
  };
  for (const Case& f : {Case{Function::kAbs, [](double v) { return std::abs(v); }},
                        Case{Function::kCos, [](double v) { return std::cos(v); }},
                        Case{Function::kExp, [](double v) { return std::exp(v); }},
                        Case{Function::kLog, [](double v) { return std::log(v); }},
                        Case{Function::kReciprocal, [](double v) { return 1 / v; }},
                        Case{Function::kSin, [](double v) { return std::sin(v); }},
                        Case{Function::kSqrt, [](double v) { return std::sqrt(v); }}}) {
    Tensor x = input({1, 37, 20, 3});
    for (std::int64_t i = 0; i < x.shape().elements(); ++i) x.data()[i] *= 9;
    const float special[] = {0, -0.0F, INFINITY, -INFINITY, NAN, 1e-30F, 1e30F, 90, -90};
    std::copy(std::begin(special), std::end(special), x.data());
    Graph graph;
    graph.add("function", FunctionNode{f.function}, {0});
    const Tensor y = Network(graph, x.shape())(x.view());
    for (std::int64_t i = 0; i < x.shape().elements(); ++i) {
      const double exact = f.exact(static_cast<double>(x.data()[i]));
      const auto rounded = static_cast<float>(exact);
      if (std::isnan(exact)) {
        EXPECT_TRUE(std::isnan(y.data()[i])) << x.data()[i];
      } else if (std::isinf(rounded)) {
        EXPECT_EQ(y.data()[i], rounded) << x.data()[i];
      } else {
        EXPECT_NEAR(y.data()[i], exact, 3 * 0x1p-23 * std::abs(exact) + 1e-37) << x.data()[i];
      }
    }
  }
}

TEST_P(ArithmeticNodesTest, LogarithmOfSoftmax) {
  for (const std::int64_t channels : {1, 10, 37, 1000}) {
    Tensor x = input({2, channels, 1, 2});
    for (std::int64_t i = 0; i < x.shape().elements(); ++i) x.data()[i] *= 40;
    Graph graph;
    graph.add("softmax", SoftmaxNode{true}, {0});
    const Tensor y = run(graph, x);
    each(x.shape(), [&](auto n, auto c, auto h, auto w) {
      double most = at(x, n, 0, h, w), sum = 0;
      for (std::int64_t i = 0; i < channels; ++i) most = std::max(most, at(x, n, i, h, w));
      for (std::int64_t i = 0; i < channels; ++i) sum += std::exp(at(x, n, i, h, w) - most);
      const double exact = at(x, n, c, h, w) - most - std::log(sum);
      EXPECT_NEAR(at(y, n, c, h, w), exact, 8 * 0x1p-24 * (std::abs(exact) + 1));
    });
  }
}

// CBAM's spatial attention, but for its convolution (Woo et al., 2018).
TEST_P(ArithmeticNodesTest, ScalesPixelsByPoolsOfTheirChannels) {
  for (const std::int64_t channels : {1, 7, 16, 37, 130}) {
    const Tensor x = input({2, channels, 3, 4});
    for (const Pool kind : {Pool::kMax, Pool::kAverage}) {
      Graph graph;
      const ValueId pool = graph.add("pool", ChannelPoolNode{kind}, {0});
      graph.add("scale", ScalePixelsNode{}, {0, pool});
      const Tensor y = run(graph, x);
      each(x.shape(), [&](auto n, auto c, auto h, auto w) {
        double most = at(x, n, 0, h, w), sum = 0, size = 0;
        for (std::int64_t i = 0; i < channels; ++i) {
          const double v = at(x, n, i, h, w);
          most = std::max(most, v);
          sum += v;
          size += std::abs(v);
        }
        const double factor = kind == Pool::kMax ? most : sum / double(channels);
        const double v = at(x, n, c, h, w);
        const double bound = testing::bound(size / double(channels), channels) * std::abs(v);
        EXPECT_NEAR(at(y, n, c, h, w), v * factor, bound + 0x1p-24 * std::abs(v * factor));
      });
    }
  }
  Graph wrong;
  wrong.add("scale", ScalePixelsNode{}, {0, 0});
  EXPECT_THROW(Network(wrong, {1, 2, 3, 3}), ArgumentError);
}

TEST_P(ArithmeticNodesTest, PoolsOfChannelsPassNanAndInfinity) {
  Tensor x = input({1, 21, 1, 3});
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  x.data()[17] = nan;
  x.data()[21 + 20] = infinity;
  Graph graph;
  graph.add("pool", ChannelPoolNode{Pool::kMax}, {0});
  const Tensor y = Network(graph, x.shape())(x.view());
  EXPECT_TRUE(std::isnan(y.data()[0]));
  EXPECT_EQ(y.data()[1], infinity);
  EXPECT_TRUE(std::isfinite(y.data()[2]));
}

TEST_P(ArithmeticNodesTest, NormalizesOverChannels) {
  for (const std::int64_t channels : {1, 5, 32, 100}) {
    Tensor x = input({2, channels, 2, 3});
    for (std::int64_t c = 0; c < channels; ++c) x.data()[c] *= 1e-4F;
    Graph graph;
    graph.add("norm", NormalizeNode{0.01}, {0});
    const Tensor y = run(graph, x);
    each(x.shape(), [&](auto n, auto c, auto h, auto w) {
      double squares = 0;
      for (std::int64_t i = 0; i < channels; ++i) squares += std::pow(at(x, n, i, h, w), 2);
      const double exact = at(x, n, c, h, w) / std::max(std::sqrt(squares), 0.01);
      EXPECT_NEAR(at(y, n, c, h, w), exact, testing::bound(std::abs(exact), channels + 2));
    });
  }
}

TEST_P(ArithmeticNodesTest, PadsByANumberByMirroringAndByRepeating) {
  const Shape in{2, 5, 4, 3};
  const Tensor x = input(in);
  for (const PadMode mode : {PadMode::kConstant, PadMode::kReflect, PadMode::kEdge}) {
    PadNode pad;
    pad.amount = {2, 3, 1, 2};
    pad.mode = mode;
    pad.value = -2;
    if (mode == PadMode::kConstant) {
      pad.channels_before = 2;
      pad.channels_after = 1;
    }
    Graph graph;
    graph.add("pad", pad, {0});
    const Tensor y = run(graph, x);
    ASSERT_EQ(y.shape()[2] * 100 + y.shape()[3], 906);
    each(y.shape(), [&](auto n, auto c, auto h, auto w) {
      const auto place = [&](std::int64_t i, std::int64_t size) {
        const std::int64_t mirrored = i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
        return mode == PadMode::kReflect ? mirrored : std::clamp<std::int64_t>(i, 0, size - 1);
      };
      const std::int64_t from = c - pad.channels_before, i = place(h - 2, 4), j = place(w - 1, 3);
      const bool inside = from >= 0 && from < 5 && i == h - 2 && j == w - 1;
      const bool there = inside || mode != PadMode::kConstant;
      EXPECT_EQ(at(y, n, c, h, w), there ? at(x, n, from, i, j) : -2.0);
    });
  }
  PadNode much;
  much.mode = PadMode::kReflect;
  much.amount = {4, 0, 0, 0};
  Graph graph;
  graph.add("pad", much, {0});
  EXPECT_THROW(Network(graph, in), ArgumentError);
}

// Several matrices of each image, longer sums than one part has, columns of any number.
TEST_P(ArithmeticNodesTest, MultipliesMatrices) {
  struct Case {
    std::int64_t matrices, rows, depth, columns;
  };
  for (const Case& s : {Case{1, 1, 1, 1}, Case{3, 7, 19, 40}, Case{2, 130, 33, 17},
                        Case{1, 29, 600, 24}, Case{2, 13, 16, 64}}) {
    for (const bool transposed : {false, true}) {
      // a and b are parts of one value of as many rows as both have.
      const std::int64_t b_rows = s.matrices * (transposed ? s.columns : s.depth);
      const std::int64_t b_columns = transposed ? s.depth : s.columns;
      const std::int64_t a_rows = s.matrices * s.rows;
      const Tensor x = input({2, s.depth + b_columns, std::max(a_rows, b_rows), 1});
      const auto part = [&](std::int64_t first, std::int64_t columns, std::int64_t rows) {
        ArrangeNode n;
        n.dims = {{{0, 2}}, {{1, columns}}, {{2, rows}}, {}};
        n.image = true;
        n.first = {0, first, 0, 0};
        return n;
      };
      Graph graph;
      const ValueId a = graph.add("a", part(0, s.depth, a_rows), {0});
      const ValueId b = graph.add("b", part(s.depth, b_columns, b_rows), {0});
      graph.add("product", MatrixProductNode{s.matrices, transposed}, {a, b});
      const Tensor y = run(graph, x);
      ASSERT_EQ(y.shape(), (Shape{2, s.columns, a_rows, 1}));
      each(y.shape(), [&](auto n, auto c, auto r, auto) {
        const std::int64_t matrix = r / s.rows;
        double exact = 0, size = 0;
        for (std::int64_t k = 0; k < s.depth; ++k) {
          const std::int64_t row = transposed ? matrix * s.columns + c : matrix * s.depth + k;
          const double product =
              at(x, n, k, r, 0) * at(x, n, s.depth + (transposed ? k : c), row, 0);
          exact += product;
          size += std::abs(product);
        }
        ASSERT_NEAR(at(y, n, c, r, 0), exact, testing::bound(size, s.depth));
      });
    }
  }
  Graph wrong;
  wrong.add("product", MatrixProductNode{2, false}, {0, 0});
  EXPECT_THROW(Network(wrong, {1, 4, 6, 1}), ArgumentError);
}

// Of every order of axes, parts of them, and the same element again and again.
TEST_P(ArithmeticNodesTest, ArrangesAxes) {
  const Shape in{2, 38, 4, 6};
  const Tensor x = input(in);
  const std::vector<std::vector<AxisFactor>> axes = {{{0, 2}}, {{1, 38}}, {{2, 4}}, {{3, 6}}};
  std::array<std::size_t, 4> order{0, 1, 2, 3};
  do {
    ArrangeNode n;
    n.image = true;
    for (const std::size_t a : order) n.dims.push_back(axes[a]);
    Graph graph;
    graph.add("copy", n, {0});
    const Tensor y = run(graph, x);
    each(y.shape(), [&](auto i, auto j, auto k, auto l) {
      std::array<std::int64_t, 4> from{};
      const std::array<std::int64_t, 4> at_copy{i, j, k, l};
      for (std::size_t d = 0; d < 4; ++d) from[order[d]] = at_copy[d];
      ASSERT_EQ(at(y, i, j, k, l), at(x, from[0], from[1], from[2], from[3]));
    });
  } while (std::next_permutation(order.begin(), order.end()));
  ArrangeNode n;
  n.image = true;
  n.first = {0, 3, 1, 0};
  n.dims = {{{3, 3, 2}}, {{2, 3}}, {{1, 5, 7}, {0, 2}}, {{1, 4, 0}}};
  Graph graph;
  graph.add("copy", n, {0});
  const Tensor y = run(graph, x);
  ASSERT_EQ(y.shape(), (Shape{3, 3, 10, 4}));
  each(y.shape(), [&](auto i, auto j, auto k, auto l) {
    ASSERT_EQ(at(y, i, j, k, l), at(x, k % 2, 3 + k / 2 * 7, 1 + j, 2 * i)) << l;
  });
  n.first[2] = 2;
  graph.nodes.back().op = n;
  EXPECT_THROW(Network(graph, in), ArgumentError);
}

INSTANTIATE_TEST_SUITE_P(Targets, ArithmeticNodesTest,
                         ::testing::ValuesIn(testing::built_targets()), testing::target_name);

}  // namespace
}  // namespace sepconv
