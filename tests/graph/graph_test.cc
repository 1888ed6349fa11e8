#include <gtest/gtest.h>

#include <algorithm>

#include <optional>

#include "base/aligned.h"
#include "graph/plan.h"
#include "sepconv/sepconv.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

Constant random_constant(const Shape& shape, std::mt19937& random) {
  return std::make_shared<Tensor>(testing::random_tensor(shape, random));
}

Conv2dNode conv_node(const Shape& weight, std::mt19937& random) {
  Conv2dNode conv;
  conv.weight = random_constant(weight, random);
  conv.options.padding = weight[2] / 2;
  return conv;
}

BatchNormNode norm_node(std::int64_t channels, std::mt19937& random) {
  BatchNormNode norm;
  norm.weight = random_constant({channels}, random);
  norm.bias = random_constant({channels}, random);
  norm.mean = random_constant({channels}, random);
  auto variance = std::make_shared<Tensor>(Shape{channels});
  for (std::int64_t c = 0; c < channels; ++c) variance->data()[c] = 1.0F + static_cast<float>(c);
  norm.variance = variance;
  return norm;
}

// A block whose every part the passes should fold, and an output that they may not.
Graph block(std::mt19937& random) {
  Graph g;
  ValueId x = g.add("norm0", norm_node(6, random), {0});
  const ValueId skip = g.add("conv1", conv_node({6, 6, 1, 1}, random), {x});
  x = g.add("norm1", norm_node(6, random), {skip});
  x = g.add("relu", ActivationNode{ActivationKind::kRelu}, {x});
  const ValueId a = x;
  x = g.add("conv2", conv_node({6, 6, 3, 3}, random), {x});
  x = g.add("norm2", norm_node(6, random), {x});
  x = g.add("add", AddNode{}, {a, x});
  g.add("silu", ActivationNode{ActivationKind::kSilu}, {x});
  return g;
}

TEST(Passes, FoldAndFuseEverythingInABlock) {
  std::mt19937 random(1);
  Graph g = block(random);
  optimize(g);
  std::vector<std::string> names;
  for (const Node& node : g.nodes) names.push_back(node.name + ": " + fused_into(node));
  EXPECT_EQ(names, (std::vector<std::string>{"input: ", "conv1: bias + relu",
                                             "conv2: bias + residual + silu"}));
}

// What is zero after the norm was not before it.
TEST(Passes, LeaveANormBeforePadding) {
  std::mt19937 random(1);
  Graph g;
  const ValueId x = g.add("norm", norm_node(6, random), {0});
  g.add("conv", conv_node({6, 6, 3, 3}, random), {x});
  optimize(g);
  ASSERT_EQ(g.nodes.size(), 3u);
  EXPECT_EQ(g.nodes[1].name, "norm");
}

// The second norm is folded into the first, which two nodes read from then on.
TEST(Passes, LeaveANormOfWhatIsReadTwice) {
  std::mt19937 random(1);
  Graph g;
  ValueId x = g.add("norm0", norm_node(6, random), {0});
  x = g.add("norm1", norm_node(6, random), {x});
  const ValueId other = g.add("norm2", norm_node(6, random), {x});
  x = g.add("relu", ActivationNode{ActivationKind::kRelu}, {x});
  g.add("add", AddNode{}, {x, other});
  fold_batch_norm(g);
  std::vector<std::string> names;
  for (const Node& node : g.nodes) names.push_back(node.name);
  EXPECT_EQ(names, (std::vector<std::string>{"input", "norm0", "norm2", "relu", "add"}));
}

TEST(Network, SharesWeightsWithOneForAnotherShapeAndNoOthers) {
  std::mt19937 random(6);
  Graph g = block(random);
  Graph again = g;
  for (Node& node : again.nodes) {
    auto* conv = std::get_if<Conv2dNode>(&node.op);
    if (!conv) continue;
    auto same = std::make_shared<Tensor>(conv->weight->shape());
    copy(conv->weight->view(), same->view());
    conv->weight = std::move(same);
  }
  auto* conv = std::get_if<Conv2dNode>(&again.nodes[5].op);
  const Network first(g, {1, 6, 5, 5});
  const Tensor x = testing::random_tensor({2, 6, 7, 9}, random);
  // One weight differs: what is packed for the first must not be taken.
  auto other = std::make_shared<Tensor>(conv->weight->shape());
  copy(conv->weight->view(), other->view());
  other->data()[7] += 1;
  conv->weight = std::move(other);
  for (const Graph& graph : {g, again}) {
    const Tensor alone = Network(graph, x.shape())(x.view());
    const Tensor shared = Network(graph, x.shape(), &first)(x.view());
    for (std::int64_t i = 0; i < x.shape().elements(); ++i) {
      ASSERT_EQ(alone.data()[i], shared.data()[i]);
    }
  }
}

TEST(Network, GivesEveryOutput) {
  std::mt19937 random(5);
  Graph g = block(random);
  const Shape shape{2, 6, 7, 9};
  const Tensor x = testing::random_tensor(shape, random);
  const Tensor alone = Network(g, shape)(x.view());
  g.stages = {4, 8};  // the first ReLU, which no longer may be fused away, and the end
  const Network all(without_head(g), shape);
  ASSERT_EQ(all.outputs(), 2u);
  const std::vector<Tensor> maps = all.run_all(x.view());
  g.outputs = {4};
  const Tensor first = Network(g, shape)(x.view());
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    ASSERT_EQ(maps[0].data()[i], first.data()[i]);
    ASSERT_EQ(maps[1].data()[i], alone.data()[i]);
  }
  EXPECT_THROW(all(x.view()), ArgumentError);
  g.outputs = {8, 8};
  EXPECT_THROW(Network(g, shape), ArgumentError);
}

TEST(Network, GivesWhatTheNodesGiveOneByOne) {
  std::mt19937 random(2);
  const Graph g = block(random);
  const Shape shape{2, 6, 7, 9};
  const Network network(g, shape);
  const Tensor x = testing::random_tensor(shape, random);
  Tensor last(shape, Layout::kNHWC);
  copy(x.view(), last.view());
  const Tensor y = network(x.view());

  // The definition, node by node, in double.
  std::vector<std::vector<double>> values;
  const auto conv = [&](std::size_t node, const std::vector<double>& in) {
    const auto& n = std::get<Conv2dNode>(g.nodes[node].op);
    Tensor t(shape);
    for (std::size_t i = 0; i < in.size(); ++i) t.data()[i] = static_cast<float>(in[i]);
    return testing::convolve(t.view(), n.weight->view(), nullptr, n.options, 1, shape).value;
  };
  const auto norm = [&](std::size_t node, std::vector<double> in) {
    const auto& n = std::get<BatchNormNode>(g.nodes[node].op);
    for (std::size_t i = 0; i < in.size(); ++i) {
      const std::size_t c = i / 63 % 6;
      const double deviation = std::sqrt(static_cast<double>(n.variance->data()[c]) + n.epsilon);
      in[i] = (in[i] - static_cast<double>(n.mean->data()[c])) / deviation *
                  static_cast<double>(n.weight->data()[c]) +
              static_cast<double>(n.bias->data()[c]);
    }
    return in;
  };
  std::vector<double> v(x.data(), x.data() + shape.elements());
  v = norm(3, conv(2, norm(1, v)));
  for (double& e : v) e = std::max(e, 0.0);
  const std::vector<double> w = norm(6, conv(5, v));
  for (std::size_t i = 0; i < v.size(); ++i) {
    const double s = v[i] + w[i], expected = s / (1 + std::exp(-s));
    const auto n = static_cast<std::int64_t>(i);
    const float got = testing::at(y.view(), n / 378, n / 63 % 6, n / 9 % 7, n % 9);
    ASSERT_NEAR(got, expected, 2e-4 * (1 + std::abs(expected)));
  }
}

TEST(InferShapes, NamesTheNodeThatDoesNotFit) {
  std::mt19937 random(3);
  const Graph g = block(random);
  try {
    infer_shapes(g, {1, 5, 8, 8});
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_EQ(std::string(error.what()).rfind("norm0: ", 0), 0u) << error.what();
  }
}

TEST(PlanArena, NeverLetsLivingValuesOverlap) {
  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    const std::size_t n = 12;
    std::vector<std::size_t> bytes(n), total(30, 0);
    std::vector<int> first(n), last(n);
    for (std::size_t i = 0; i < n; ++i) {
      bytes[i] = random() % 5000;
      first[i] = static_cast<int>(random() % 20);
      last[i] = first[i] + static_cast<int>(random() % 8);
      for (int t = first[i]; t <= last[i]; ++t) total[static_cast<std::size_t>(t)] += bytes[i];
    }
    const ArenaPlan plan = plan_arena(bytes, first, last);
    EXPECT_GE(plan.bytes, *std::max_element(total.begin(), total.end()));
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < i; ++j) {
        const bool together = first[i] <= last[j] && first[j] <= last[i];
        const bool apart = plan.offset[i] + bytes[i] <= plan.offset[j] ||
                           plan.offset[j] + bytes[j] <= plan.offset[i];
        EXPECT_TRUE(!together || apart || bytes[i] == 0 || bytes[j] == 0);
      }
  }
}

TEST(PlanArena, StaggersWhatOneStepReadsAndWrites) {
  const std::size_t size = 28 * 28 * 256 * sizeof(float);
  const ArenaPlan plan =
      plan_arena({size, size, size, size, size}, {0, 1, 2, 3, 4}, {1, 2, 3, 4, 5});
  for (std::size_t i = 1; i < 5; ++i) {
    EXPECT_NE(plan.offset[i] % kStagger, plan.offset[i - 1] % kStagger);
  }
}

TEST(Network, RunsWithoutIntermediatesOfItsChains) {
  models::RandomWeights weights;
  const Network network(models::build("mobilenetv2_100", weights), {1, 3, 224, 224});
  // Layer by layer, the largest input and output together need 6 MB.
  EXPECT_LT(network.workspace_bytes(), 6'000'000u);
}

// Of a ViT's last block only the class token is wanted, and of its rows only that one is computed.
TEST(Network, ComputesOnlyTheRowsThatAreRead) {
  models::RandomWeights weights;
  const Network network(models::build("vit_tiny_patch16_224", weights), {1, 3, 224, 224});
  std::string last;
  for (const StepInfo& step : network.explain()) {
    if (step.name.find("class_token") != std::string::npos) last = step.name;
  }
  EXPECT_EQ(last.rfind("blocks.11.attn.proj", 0), 0u) << last;
}

TEST(Network, TellsWhyChainsEnd) {
  models::RandomWeights weights;
  const Network network(models::build("mobilenetv3_large_100", weights), {1, 3, 224, 224});
  const std::vector<StepInfo> steps = network.explain();
  std::vector<std::string> reasons;
  for (const StepInfo& step : steps) {
    EXPECT_EQ(step.band > 0, step.kernel.find("linear") == std::string::npos) << step.kernel;
    EXPECT_EQ(step.band > 0, !step.cut.empty()) << step.name;
    reasons.push_back(step.cut);
  }
  const auto any = [&](const char* text) {
    return std::any_of(reasons.begin(), reasons.end(), [&](const std::string& reason) {
      return reason.find(text) != std::string::npos;
    });
  };
  EXPECT_TRUE(any("se.conv_reduce.pool needs all rows"));
  EXPECT_TRUE(any("se.conv_reduce is not row-local"));
  EXPECT_TRUE(any("is read again later"));
}

// 512 channels: pixels of values that depthwise layers alone read or write lie apart, in rings and
// between chains; those that are outputs too are dense.
TEST(Network, GivesTheSameBitsWithPixelsApart) {
  std::mt19937 random(7);
  Graph g;
  ValueId x = g.add("expand", conv_node({512, 32, 1, 1}, random), {0});
  for (const std::int64_t kernel : {3, 5}) {
    Conv2dNode depthwise = conv_node({512, 1, kernel, kernel}, random);
    depthwise.groups = 512;
    depthwise.options.stride = kernel / 2;
    x = g.add("depthwise", depthwise, {x});
    x = g.add("pointwise", conv_node({512, 512, 1, 1}, random), {x});
  }
  x = g.add("project", conv_node({16, 512, 1, 1}, random), {x});
  Graph dense = g;
  for (ValueId v = 1; v <= x; ++v) dense.outputs.push_back(v);
  std::sort(dense.outputs.begin(), dense.outputs.end());
  dense.outputs.erase(std::unique(dense.outputs.begin(), dense.outputs.end()), dense.outputs.end());
  for (const std::int64_t images : {1, 2}) {
    const Tensor in = testing::random_tensor({images, 32, 14, 13}, random);
    const Network apart(g, in.shape()), all(dense, in.shape());
    const Tensor expected = std::move(all.run_all(in.view(), ThreadPool::single()).back());
    EXPECT_GT(apart.explain().size(), 2u);
    for (const int threads : {1, 2, 3}) {
      const Tensor got = apart(in.view(), ThreadPool(threads));
      for (std::int64_t i = 0; i < got.shape().elements(); ++i) {
        ASSERT_EQ(got.data()[i], expected.data()[i]) << images << " images, " << i;
      }
    }
  }
}

// Squeeze-excite's scale goes into the projection on maps of many pixels, and not on the last ones,
// 7 x 7 from the sixth stage on. A step may be a chain, as caches have it: "a > b" and what each of
// them has fused.
TEST(Network, TakesScalesIntoTheWeightsWhereTheseAreFewer) {
  const auto parts = [](const std::string& chain) {
    std::vector<std::string> result;
    for (std::size_t at = 0, end = 0; end != std::string::npos; at = end + 3) {
      end = chain.find(" > ", at);
      result.push_back(chain.substr(at, end - at));
    }
    return result;
  };
  models::RandomWeights weights;
  const Network network(models::build("efficientnet_b0", weights), {1, 3, 224, 224});
  int projections = 0;
  for (const StepInfo& step : network.explain()) {
    const std::vector<std::string> names = parts(step.name), fused = parts(step.fused);
    ASSERT_EQ(names.size(), fused.size()) << step.name;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i].find("conv_pwl") == std::string::npos) continue;
      const bool small_map = names[i] >= "blocks.5";
      EXPECT_EQ(fused[i].find("scale + bias") == std::string::npos, small_map) << names[i];
      ++projections;
    }
  }
  EXPECT_EQ(projections, 15);
}

// Each step rounds a few times more or less, at the size of what it gives.
TEST(Network, GivesOnAmxWhatItGivesWithoutUpToRounding) {
  if (!testing::machine_has("AVX3"))
    GTEST_SKIP() << "AMX is used above AVX3 only, which this machine lacks";
  set_target("AVX3");
  std::mt19937 random(3);
  const Tensor x = testing::random_tensor({1, 3, 96, 96}, random);
  models::RandomWeights weights;
  const Graph graph = models::build("efficientnet_b0", weights);
  const Network by_fma(graph, x.shape());
  emulate_amx(&testing::kEmulatedAmx);
  const Network by_amx(graph, x.shape());
  const Tensor expected = by_fma(x.view()), got = by_amx(x.view());
  emulate_amx(nullptr);
  set_target("");
  std::string kernels;
  for (const StepInfo& step : by_amx.explain()) kernels += step.kernel + "; ";
  for (const char* kind : {"scaled pointwise amx", "depthwise 3x3", "linear"}) {
    EXPECT_NE(kernels.find(kind), std::string::npos) << kind << " not in " << kernels;
  }
  double error = 0, size = 0;
  for (std::int64_t i = 0; i < expected.shape().elements(); ++i) {
    error += std::pow(got.data()[i] - expected.data()[i], 2);
    size += std::pow(expected.data()[i], 2);
  }
  const auto steps = static_cast<double>(by_fma.explain().size());
  EXPECT_GT(error, 0);
  EXPECT_LT(std::sqrt(error / size), 2 * steps * 0x1p-23);
}

TEST(Network, RefusesInputsThatDoNotFit) {
  models::RandomWeights weights;
  const Network network(models::build("mobilenetv2_035", weights), {1, 3, 32, 32});
  const Tensor x(Shape{1, 3, 33, 32});
  EXPECT_THROW(network(x.view()), ArgumentError);
  EXPECT_THROW(Network(models::build("mobilenetv2_035", weights), {1, 4, 32, 32}), ArgumentError);
}

}  // namespace
}  // namespace sepconv
