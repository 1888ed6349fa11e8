#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "sepconv/sepconv.h"
#include "support/nodes.h"

namespace sepconv {
namespace {

class NodesTest : public testing::Nodes {};

TEST_P(NodesTest, LayerNormOverChannels) {
  for (const auto& [channels, centred] :
       {std::pair(1, true), std::pair(5, true), std::pair(48, true), std::pair(100, true),
        std::pair(1, false), std::pair(100, false)}) {
    const Tensor x = input({2, channels, 3, 4});
    LayerNormNode norm{constant({channels}), constant({channels}), 1e-6, centred};
    Graph graph;
    graph.add("norm", norm, {0});
    const Tensor y = run(graph, x);
    for (std::int64_t p = 0; p < 2 * 12; ++p) {
      const std::int64_t n = p / 12, h = p / 4 % 3, w = p % 4;
      double mean = 0, variance = 0;
      for (std::int64_t c = 0; c < channels && centred; ++c) {
        mean += at(x, n, c, h, w) / double(channels);
      }
      for (std::int64_t c = 0; c < channels; ++c) {
        variance += std::pow(at(x, n, c, h, w) - mean, 2) / double(channels);
      }
      for (std::int64_t c = 0; c < channels; ++c) {
        const double normal = (at(x, n, c, h, w) - mean) / std::sqrt(variance + 1e-6);
        const double exact = normal * double(norm.weight->data()[c]) + double(norm.bias->data()[c]);
        ASSERT_NEAR(at(y, n, c, h, w), exact, 32 * 0x1p-23 * (1 + std::abs(normal)) * 4);
      }
    }
  }
}

TEST_P(NodesTest, ResponseNormScalesChannels) {
  const std::int64_t channels = 21;
  const Tensor x = input({2, channels, 9, 9});
  ResponseScaleNode response{constant({channels}), 1e-6};
  Graph graph;
  const ValueId scale = graph.add("response", response, {0});
  graph.add("scale", ScaleNode{}, {0, scale});
  const Tensor y = run(graph, x);
  for (std::int64_t n = 0; n < 2; ++n) {
    std::vector<double> g(channels, 0.0);
    double mean = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t p = 0; p < 81; ++p)
        g[std::size_t(c)] += std::pow(at(x, n, c, p / 9, p % 9), 2);
      g[std::size_t(c)] = std::sqrt(g[std::size_t(c)]);
      mean += g[std::size_t(c)] / double(channels);
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      const double part = double(response.weight->data()[c]) * g[std::size_t(c)] / (mean + 1e-6);
      for (std::int64_t p = 0; p < 81; ++p) {
        const double from = at(x, n, c, p / 9, p % 9);
        // g adds 81 squares, the mean 21 of these, and a few operations are between.
        const double size = std::abs(from) * (1 + std::abs(part));
        ASSERT_NEAR(at(y, n, c, p / 9, p % 9), from * (1 + part),
                    testing::bound(size, 81 + 21 + 4));
      }
    }
  }
}

// Groups of one channel (instance norm), of some, and of all; a map of less and of more than a part
// that is summed up at once; an activation behind it.
TEST_P(NodesTest, GroupNormOverChannelsAndPositions) {
  const std::int64_t channels = 12;
  for (const std::int64_t groups : {1, 3, 12}) {
    for (const std::int64_t side : {3, 45}) {
      Tensor x = input({2, channels, side, side});
      for (std::int64_t i = 0; i < x.shape().elements(); ++i) x.data()[i] += 2;
      GroupScaleNode norm{constant({channels}), constant({channels}), groups, 1e-3};
      Graph graph;
      const ValueId factors = graph.add("factors", norm, {0});
      graph.add("norm", ScaleShiftNode{ActivationKind::kLeakyRelu}, {0, factors});
      const Tensor y = run(graph, x);
      const std::int64_t each = channels / groups, pixels = side * side;
      for (std::int64_t i = 0; i < 2 * groups; ++i) {
        const std::int64_t n = i / groups, first = i % groups * each;
        const auto element = [&](std::int64_t e) {
          return at(x, n, first + e / pixels, e % pixels / side, e % side);
        };
        const std::int64_t count = each * pixels;
        double mean = 0, variance = 0;
        for (std::int64_t e = 0; e < count; ++e) mean += element(e) / double(count);
        for (std::int64_t e = 0; e < count; ++e) {
          variance += std::pow(element(e) - mean, 2) / double(count);
        }
        const double deviation = std::sqrt(variance + 1e-3);
        for (std::int64_t e = 0; e < count; e += 1 + count / 50) {
          const std::int64_t c = first + e / pixels;
          const double scale = double(norm.weight->data()[c]) / deviation;
          const double bias = double(norm.bias->data()[c]);
          const double exact = (element(e) - mean) * scale + bias;
          // What is added has the mean's rounding, times the factor; a part's sums are of some
          // thousands of values.
          const double size =
              (std::abs(element(e)) + std::abs(mean)) * std::abs(scale) + std::abs(bias);
          ASSERT_NEAR(at(y, n, c, e % pixels / side, e % side), exact < 0 ? 0.01 * exact : exact,
                      testing::bound(size, 24));
        }
      }
    }
  }
}

// softmax(scale · q·kᵀ + bias)·v by head, for some of the queries.
void expect_attention(const AttentionNode& node, const Tensor& q, const Tensor& k, const Tensor& v,
                      const Tensor& y) {
  const auto& [heads, of_q, of_k, of_v, scale] = node.heads;
  const std::int64_t queries = q.shape()[2] * q.shape()[3], keys = k.shape()[2] * k.shape()[3];
  // Channel c of a head's token t.
  const auto at = [](const Tensor& x, const HeadChannels& part, std::int64_t n, std::int64_t head,
                     std::int64_t t, std::int64_t c) {
    const std::int64_t width = x.shape()[3];
    return static_cast<double>(
        testing::at(x.view(), n, part.first + head * part.step + c, t / width, t % width));
  };
  const HeadChannels of_y{0, of_v.count, of_v.count};
  for (std::int64_t i = 0; i < q.shape()[0] * heads; ++i) {
    const std::int64_t n = i / heads, head = i % heads;
    for (std::int64_t t = 0; t < queries; t += 1 + queries / 9) {
      std::vector<double> weight;
      double sum = 0, steepest = 0;
      for (std::int64_t u = 0; u < keys; ++u) {
        double score = 0, size = 0;
        if (node.bias) score = node.bias->data()[(head * queries + t) * keys + u];
        size = std::abs(score);
        for (std::int64_t c = 0; c < of_k.count; ++c) {
          const double product = at(q, of_q, n, head, t, c) * at(k, of_k, n, head, u, c) * scale;
          score += product;
          size += std::abs(product);
        }
        steepest = std::max(steepest, size);
        weight.push_back(std::exp(score));
        sum += weight.back();
      }
      for (std::int64_t c = 0; c < of_v.count; ++c) {
        double exact = 0, size = 0;
        for (std::int64_t u = 0; u < keys; ++u) {
          const double product = weight[std::size_t(u)] / sum * at(v, of_v, n, head, u, c);
          exact += product;
          size += std::abs(product);
        }
        // A score's error is its exponential's relative one, above and below the line; sums over
        // the tokens, a few operations besides.
        const auto products = std::int64_t(2 * double(of_k.count + 2) * steepest) + 2 * keys + 8;
        ASSERT_NEAR(at(y, of_y, n, head, t, c), exact, testing::bound(size, products));
      }
    }
  }
}

// Counts of tokens around the panels' widths, more than one part of products among them.
TEST_P(NodesTest, AttentionIsSoftmaxOfProducts) {
  for (std::int64_t tokens : {1, 7, 17, 24, 33, 300}) {
    const std::int64_t heads = 3, depth = 20, channels = heads * depth;
    const Tensor x = input({2, 3 * channels, tokens, 1});
    const AttentionNode node{AttentionHeads::of_thirds(heads, channels), nullptr};
    Graph graph;
    graph.add("attention", node, {0, 0, 0});
    expect_attention(node, x, x, x, run(graph, x));
  }
}

// Keys and values of a smaller map, the same keys for all heads, values wider than these, and a
// bias; places of heads that overlap.
TEST_P(NodesTest, AttentionBetweenTwoMaps) {
  const Tensor x = input({2, 60, 10, 14});
  Graph pool;
  Pool2dNode window;
  window.options.kernel = window.options.stride = 2;
  pool.add("pool", window, {0});
  const Tensor small = run(pool, x);
  for (const bool biased : {false, true}) {
    AttentionNode node{
        {.heads = 3, .q = {2, 16, 18}, .k = {1, 0, 18}, .v = {3, 7, 40}, .scale = 0.2}, nullptr};
    if (biased) node.bias = constant({3, 140, 35});
    Graph graph = pool;
    graph.add("attention", node, {0, 1, 1});
    expect_attention(node, x, small, small, run(graph, x));
  }
}

// One of an image's windows, as an image.
Tensor cut(const Tensor& x, const AttentionWindow& window, std::int64_t row, std::int64_t column) {
  const Shape& s = x.shape();
  const Size2d size = window.size, count(s[2] / size.height, s[3] / size.width);
  Tensor y({s[0], s[1], size.height, size.width}, Layout::kNHWC);
  for (std::int64_t i = 0; i < y.shape().elements(); ++i) {
    const std::int64_t c = i % s[1], w = i / s[1] % size.width;
    const std::int64_t h = i / s[1] / size.width % size.height;
    const std::int64_t n = i / s[1] / size.width / size.height;
    const std::int64_t from_h = window.dilated ? row + h * count.height : row * size.height + h;
    const std::int64_t from_w = window.dilated ? column + w * count.width : column * size.width + w;
    y.data()[i] = testing::at(x.view(), n, c, from_h, from_w);
  }
  return y;
}

// More and fewer tokens than queries are taken at a time; values wider than keys; a bias that the
// windows share.
TEST_P(NodesTest, AttentionWithinWindows) {
  for (const Size2d size : {Size2d(3, 4), Size2d(9, 8), Size2d(1, 2), Size2d(9, 16)}) {
    for (const bool dilated : {false, true}) {
      const Tensor x = input({2, 60, 9, 16});
      const std::int64_t tokens = size.height * size.width;
      AttentionNode node{
          {.heads = 2, .q = {0, 5, 5}, .k = {10, 5, 5}, .v = {20, 20, 20}, .scale = 0.3},
          constant({2, tokens, tokens}),
          {size, dilated}};
      Graph graph;
      graph.add("attention", node, {0, 0, 0});
      const Tensor y = run(graph, x);
      for (std::int64_t row = 0; row < 9 / size.height; ++row) {
        for (std::int64_t column = 0; column < 16 / size.width; ++column) {
          const Tensor part = cut(x, node.window, row, column);
          expect_attention(node, part, part, part, cut(y, node.window, row, column));
        }
      }
    }
  }
}

TEST(Attention, SaysWhatDoesNotFit) {
  const auto refusal = [](const AttentionNode& node) {
    Graph graph;
    graph.add("attention", node, {0, 0, 0});
    try {
      infer_shapes(graph, {1, 24, 3, 3});
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const AttentionHeads good = AttentionHeads::of_thirds(2, 8);
  EXPECT_EQ(refusal({good, nullptr}), "");
  AttentionHeads outside = good, unequal = good;
  outside.v.first = 20;
  unequal.q.count = 3;
  EXPECT_EQ(refusal({outside, nullptr}),
            "attention: attention finds no 2 heads of 4 values in [1, 24, 3, 3]");
  EXPECT_EQ(refusal({unequal, nullptr}), "attention: attention of 3 query channels and 4 of keys");
  const auto bias = std::make_shared<Tensor>(Shape{2, 9, 8});
  EXPECT_EQ(refusal({good, bias}), "attention: attention adds [2, 9, 8] to scores of [2, 9, 9]");
  EXPECT_EQ(refusal({good, nullptr, {{3, 2}}}),
            "attention: attention in windows of 3 x 2 of [1, 24, 3, 3], [1, 24, 3, 3] and [1, 24, "
            "3, 3]");
  EXPECT_THROW(AttentionHeads::of_thirds(3, 8), ArgumentError);
  EXPECT_THROW(AttentionHeads::of_thirds(0, 8), ArgumentError);
}

TEST_P(NodesTest, ClassTokenComesFirst) {
  const std::int64_t channels = 6;
  ClassTokensNode tokens{constant({channels}), constant({1 + 9, channels}), 3, 1};
  Graph graph;
  graph.add("tokens", tokens, {0});
  const Tensor x = input({2, channels, 3, 3});
  const Tensor y = run(graph, x);
  ASSERT_EQ(y.shape(), (Shape{2, channels, 10, 1}));
  for (std::int64_t n = 0; n < 2; ++n)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t t = 0; t < 10; ++t) {
        const float before = t == 0 ? tokens.token->data()[c]
                                    : testing::at(x.view(), n, c, (t - 1) / 3, (t - 1) % 3);
        ASSERT_EQ(testing::at(y.view(), n, c, t, 0),
                  before + tokens.positions->data()[t * channels + c]);
      }
  tokens.patch = 2;
  graph.nodes.back().op = tokens;
  EXPECT_THROW(Network(graph, x.shape()), ArgumentError);
  tokens.patch = 1;
  // Constant positions stay so on any other grid.
  auto ones = std::make_shared<Tensor>(Shape{1 + 9, channels});
  std::fill_n(ones->data(), 10 * channels, 1.0F);
  tokens.positions = ones;
  graph.nodes.back().op = tokens;
  const Tensor zeros(Shape{1, channels, 5, 2}, Layout::kNHWC);
  const Tensor other = run(graph, zeros);
  for (std::int64_t i = channels; i < 11 * channels; ++i) {
    ASSERT_NEAR(other.data()[i], 1, testing::bound(1, 1));
  }
}

TEST_P(NodesTest, MixedDepthwiseIsADepthwiseForEachRange) {
  for (bool same : {false, true})
    for (std::int64_t stride : {1, 2}) {
      MixedDepthwiseNode mixed;
      const std::vector<std::int64_t> kernels = {3, 5, 7, 9}, ranges = {19, 17, 17, 3};
      for (std::size_t i = 0; i < 4; ++i) {
        mixed.weights.push_back(constant({ranges[i], 1, kernels[i], kernels[i]}));
      }
      mixed.bias = constant({56});
      mixed.stride = stride;
      mixed.same_padding = same;
      mixed.activation = ActivationKind::kRelu;
      const Tensor x = input({2, 56, 12, 10});
      Graph graph;
      graph.add("mixed", mixed, {0});
      const Tensor y = run(graph, x);
      std::int64_t first = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        const std::int64_t k = kernels[i], n = ranges[i];
        Conv2dOptions o;
        o.stride = stride;
        o.padding = same ? Padding::same({12, 10}, k, stride) : Padding(k / 2);
        Tensor part(Shape{2, n, 12, 10});
        for (std::int64_t e = 0; e < part.shape().elements(); ++e) {
          part.data()[e] =
              testing::at(x.view(), e / (120 * n), first + e / 120 % n, e / 10 % 12, e % 10);
        }
        const Shape out{2, n, y.shape()[2], y.shape()[3]};
        const auto exact = testing::convolve(part.view(), mixed.weights[i]->view(),
                                             mixed.bias->data() + first, o, n, out);
        const std::int64_t pixels = out[2] * out[3];
        for (std::int64_t e = 0; e < out.elements(); ++e) {
          const double got =
              at(y, e / (pixels * n), first + e / pixels % n, e / out[3] % out[2], e % out[3]);
          ASSERT_NEAR(got, std::max(0.0, exact.value[std::size_t(e)]),
                      testing::bound(exact.magnitude[std::size_t(e)], k * k + 1));
        }
        first += n;
      }
    }
}

// Producers of every kind write their own channels and nobody else's, in either order.
TEST_P(NodesTest, ConcatIsWrittenInPlace) {
  const Tensor x = input({2, 37, 14, 14});
  for (const bool turned : {false, true}) {
    Graph graph;
    const auto conv = [&](std::int64_t out, std::int64_t kernel, ActivationKind activation) {
      Conv2dNode node;
      node.weight = constant({out, 37, kernel, kernel});
      node.bias = constant({out});
      node.options.padding = kernel / 2;
      node.options.activation = activation;
      return graph.add("conv", std::move(node), {0});
    };
    Pool2dNode pool;
    pool.options = {3, 1, 1};
    ResizeNode resize;
    resize.how.mode = Resampling::Mode::kLinear;
    resize.size = 14;
    std::vector<ValueId> parts = {conv(19, 1, ActivationKind::kRelu6),
                                  conv(33, 3, ActivationKind::kSilu), graph.add("pool", pool, {0}),
                                  conv(5, 5, ActivationKind::kNone),
                                  graph.add("resize", resize, {0})};
    const ValueId sum = graph.add("sum", AddNode{}, {0, 0});  // writes nothing in place
    parts.push_back(sum);
    if (turned) std::reverse(parts.begin(), parts.end());
    graph.add("concat", ConcatNode{}, parts);
    const Tensor whole = run(graph, x);
    graph.outputs = parts;
    std::int64_t first = 0;
    for (const Tensor& part : Network(graph, x.shape()).run_all(x.view())) {
      const Shape& s = part.shape();
      for (std::int64_t e = 0; e < s.elements(); ++e) {
        const std::int64_t n = e / 196 / s[1], c = e / 196 % s[1], h = e / 14 % 14, w = e % 14;
        ASSERT_EQ(at(whole, n, first + c, h, w), at(part, n, c, h, w)) << first << " " << c;
      }
      first += s[1];
    }
    ASSERT_EQ(first, whole.shape()[1]);
  }
}

TEST_P(NodesTest, ConcatAndCeilPool) {
  const Tensor x = input({2, 5, 8, 8});
  Graph graph;
  Pool2dNode pool;
  pool.options.kernel = 3;
  pool.options.stride = 2;
  pool.ceil_mode = true;
  const ValueId a = graph.add("pool", pool, {0});
  const ValueId b = graph.add("relu", ActivationNode{ActivationKind::kRelu}, {a});
  graph.add("concat", ConcatNode{}, {a, b, a});
  const Tensor y = run(graph, x);
  ASSERT_EQ(y.shape(), (Shape{2, 15, 4, 4}));
  for (std::int64_t n = 0; n < 2; ++n)
    for (std::int64_t c = 0; c < 15; ++c)
      for (std::int64_t i = 0; i < 4; ++i)
        for (std::int64_t j = 0; j < 4; ++j) {
          double most = -INFINITY;
          for (std::int64_t h = 2 * i; h < std::min<std::int64_t>(2 * i + 3, 8); ++h)
            for (std::int64_t w = 2 * j; w < std::min<std::int64_t>(2 * j + 3, 8); ++w)
              most = std::max(most, at(x, n, c % 5, h, w));
          ASSERT_EQ(at(y, n, c, i, j), c / 5 == 1 ? std::max(0.0, most) : most);
        }
}

// Every input pixel adds its kernel to the output: the definition, with all that can be set.
TEST_P(NodesTest, TransposedConvolutionScatters) {
  struct Case {
    std::int64_t in, out, groups, kernel, stride, dilation, padding, extra;
  };
  for (const Case& k :
       {Case{5, 24, 1, 2, 2, 1, 0, 0}, Case{24, 1, 1, 2, 2, 1, 0, 0}, Case{6, 4, 2, 3, 2, 1, 1, 1},
        Case{18, 18, 18, 4, 2, 1, 1, 0}, Case{3, 5, 1, 3, 1, 1, 1, 0}, Case{4, 6, 1, 2, 3, 1, 0, 1},
        Case{4, 6, 1, 3, 2, 2, 1, 0}, Case{4, 3, 1, 3, 2, 1, 2, 0}}) {
    for (const bool uneven : {false, true}) {
      ConvTranspose2dNode node;
      node.weight = constant({k.out, k.in / k.groups, k.kernel, k.kernel});
      node.bias = constant({k.out});
      node.stride = {k.stride, uneven ? 1 : k.stride};
      node.dilation = k.dilation;
      node.padding = {k.padding, uneven ? 0 : k.padding, k.padding, k.padding};
      node.output_padding = {k.extra, 0};
      node.groups = k.groups;
      node.activation = ActivationKind::kRelu;
      const Tensor x = input({2, k.in, 6, 5});
      Graph graph;
      graph.add("transposed", node, {0});
      const Tensor y = run(graph, x);
      const Shape& s = y.shape();
      ASSERT_EQ(s[2], 5 * k.stride + (k.kernel - 1) * k.dilation + 1 - node.padding.top -
                          node.padding.bottom + k.extra);
      std::vector<double> exact(to_index(s, s[0], 0, 0, 0)), size(exact.size());
      for (std::int64_t e = 0; e < s[0] * s[1] * s[2] * s[3]; ++e) {
        exact[std::size_t(e)] = double(node.bias->data()[e / (s[2] * s[3]) % s[1]]);
        size[std::size_t(e)] = std::abs(exact[std::size_t(e)]);
      }
      const std::int64_t each_in = k.in / k.groups, each_out = k.out / k.groups;
      for (std::int64_t e = 0; e < 2 * k.in * 30 * each_out * k.kernel * k.kernel; ++e) {
        std::int64_t rest = e;
        const auto next = [&rest](std::int64_t n) {
          const std::int64_t i = rest % n;
          rest /= n;
          return i;
        };
        const std::int64_t v = next(k.kernel), u = next(k.kernel), m = next(each_out), w = next(5),
                           h = next(6), c = next(k.in), n = next(2);
        const std::int64_t o = c / each_in * each_out + m;
        const std::int64_t i = h * node.stride.height + u * k.dilation - node.padding.top;
        const std::int64_t j = w * node.stride.width + v * k.dilation - node.padding.left;
        if (i < 0 || i >= s[2] || j < 0 || j >= s[3]) continue;
        const double product =
            at(x, n, c, h, w) * double(testing::at(node.weight->view(), o, c % each_in, u, v));
        exact[to_index(s, n, o, i, j)] += product;
        size[to_index(s, n, o, i, j)] += std::abs(product);
      }
      for (std::int64_t e = 0; e < s.elements(); ++e) {
        const std::int64_t area = s[2] * s[3];
        const double got = at(y, e / area / s[1], e / area % s[1], e % area / s[3], e % s[3]);
        ASSERT_NEAR(got, std::max(exact[std::size_t(e)], 0.0),
                    testing::bound(size[std::size_t(e)], each_in * k.kernel * k.kernel + 1))
            << k.kernel << " " << k.stride << " " << k.groups;
      }
    }
  }
}

TEST_P(NodesTest, AddsAMapToEveryImage) {
  const Shape shape{2, 19, 3, 5};
  const Tensor x = input(shape);
  const Constant map = constant({19, 3, 5});
  Graph graph;
  graph.add("positions", AddMapNode{map}, {0});
  const Tensor y = run(graph, x);
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    const std::int64_t n = i / 285, c = i / 15 % 19, h = i / 5 % 3, w = i % 5;
    EXPECT_EQ(testing::at(y.view(), n, c, h, w),
              testing::at(x.view(), n, c, h, w) + map->data()[i % 285]);
  }
}

TEST_P(NodesTest, MultipliesElementByElement) {
  const Tensor x = input({2, 11, 6, 4});
  Graph graph;
  const ValueId swish = graph.add("swish", ActivationNode{ActivationKind::kHardSwish}, {0});
  graph.add("product", MultiplyNode{}, {0, swish});
  const Tensor y = run(graph, x);
  for (std::int64_t e = 0; e < 2 * 11 * 24; ++e) {
    const std::int64_t n = e / 264, c = e / 24 % 11, h = e / 4 % 6, w = e % 4;
    const double v = at(x, n, c, h, w);
    EXPECT_NEAR(at(y, n, c, h, w), v * v * std::clamp(v / 6 + 0.5, 0.0, 1.0), 1e-5);
  }
}

TEST_P(NodesTest, PartsAndPatchesAreCopies) {
  const Tensor x = input({2, 10, 6, 4});
  Graph graph;
  graph.add("channels", ChannelsNode{3, 5}, {0});
  const Tensor y = run(graph, x);
  ASSERT_EQ(y.shape(), (Shape{2, 5, 6, 4}));
  for (std::int64_t e = 0; e < 2 * 5 * 24; ++e) {
    const std::int64_t n = e / 120, c = e / 24 % 5, h = e / 4 % 6, w = e % 4;
    ASSERT_EQ(at(y, n, c, h, w), at(x, n, c + 3, h, w));
  }
  Graph shuffle;
  shuffle.add("shuffle", ChannelShuffleNode{2}, {0});
  const Tensor shuffled = run(shuffle, x);
  ASSERT_EQ(shuffled.shape(), x.shape());
  for (std::int64_t e = 0; e < 2 * 10 * 24; ++e) {
    const std::int64_t n = e / 240, c = e / 24 % 10, h = e / 4 % 6, w = e % 4;
    ASSERT_EQ(at(shuffled, n, c % 5 * 2 + c / 5, h, w), at(x, n, c, h, w));
  }
  Graph odd;
  odd.add("shuffle", ChannelShuffleNode{3}, {0});
  EXPECT_THROW(Network(odd, x.shape()), ArgumentError);
  Graph tokens;
  const ValueId all =
      tokens.add("tokens", ClassTokensNode{constant({10}), constant({1 + 24, 10}), 6, 2}, {0});
  tokens.add("map", PatchMapNode{2}, {all});
  EXPECT_THROW(Network(tokens, {2, 10, 6, 4}),
               ArgumentError);  // tokens are of patches of one pixel
}

// Halfway between pixels and on them; the ONNX node tests have the rules in full.
TEST_P(NodesTest, ResizeInterpolates) {
  const Tensor x = input({2, 21, 3, 4});
  Graph graph;
  ResizeNode resize;
  resize.how.mode = Resampling::Mode::kLinear;
  resize.how.coordinates = Resampling::Coordinates::kAlignCorners;
  resize.size = {5, 7};
  graph.add("resize", resize, {0});
  const Tensor y = run(graph, x);
  for (std::int64_t e = 0; e < 2 * 21 * 35; ++e) {
    const std::int64_t n = e / 735, c = e / 35 % 21, i = e / 7 % 5, j = e % 7;
    double exact = 0, size = 0;
    for (const std::int64_t h : {i / 2, (i + 1) / 2})
      for (const std::int64_t w : {j / 2, (j + 1) / 2}) {
        exact += at(x, n, c, h, w) / 4;
        size += std::abs(at(x, n, c, h, w)) / 4;
      }
    ASSERT_NEAR(at(y, n, c, i, j), exact, testing::bound(size, 4));
  }
  resize.size = {0, 4};
  resize.scale_height = 0.1;
  graph.nodes.back().op = resize;
  EXPECT_THROW(Network(graph, x.shape()), ArgumentError);
}

INSTANTIATE_TEST_SUITE_P(Targets, NodesTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

TEST(Models, EveryTableHasTheShapesOfItsNetwork) {
  for (const models::ModelInfo& info : models::list()) {
    const models::Costs costs = models::costs(info.name);
    EXPECT_GT(costs.parameters, 5e5) << info.name;
    EXPECT_GT(costs.macs, 1e7) << info.name;
  }
  const models::Costs costs = models::costs("efficientnet_b0");
  EXPECT_EQ(costs.parameters, 5288548);
}

}  // namespace
}  // namespace sepconv
