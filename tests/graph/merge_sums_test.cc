#include <gtest/gtest.h>

#include <cmath>

#include "sepconv/sepconv.h"
#include "support/reference.h"

namespace sepconv {
namespace {

constexpr std::int64_t kChannels = 6;

Graph of_one_node(const Conv2dNode& node) {
  Graph graph;
  graph.add("conv", node, {0});
  return graph;
}

// A graph that adds up functions of its input, and what it should give, in double.
class Branches {
 public:
  explicit Branches(unsigned seed)
      : random_(seed), x_(testing::random_tensor({2, kChannels, 9, 8}, random_)) {}

  Conv2dNode conv(std::int64_t height, std::int64_t width, std::int64_t groups) {
    Conv2dNode node;
    node.weight = constant({kChannels, kChannels / groups, height, width});
    node.bias = constant({kChannels});
    node.options.padding = Padding(height / 2, height / 2, width / 2, width / 2);
    node.groups = groups;
    return node;
  }

  BatchNormNode norm() {
    BatchNormNode node{constant({kChannels}), constant({kChannels}), constant({kChannels}), {}};
    auto variance = std::make_shared<Tensor>(Shape{kChannels});
    for (std::int64_t c = 0; c < kChannels; ++c) variance->data()[c] = 0.5F + static_cast<float>(c);
    node.variance = variance;
    return node;
  }

  Branches& add(const Conv2dNode& node) {
    const Shape out = infer_shapes(of_one_node(node), x_.shape()).back();
    const auto& [weight, bias, options, groups, same, scaled] = node;
    products_ += weight->shape().elements() / kChannels + 1;
    return add(graph_.add("conv", node, {0}),
               testing::convolve(x_.view(), weight->view(), bias->data(), options, groups, out));
  }
  // The input itself, and behind a norm.
  Branches& add_input() { return add(0, input()); }
  Branches& add(const BatchNormNode& node) {
    testing::Exact exact = input();
    normalize(node, exact);
    return add(graph_.add("norm", node, {0}), exact);
  }
  // What all so far come to, behind a norm.
  Branches& normalize(const BatchNormNode& node) {
    last_ = graph_.add("norm of all", node, {last_});
    normalize(node, sum_);
    return *this;
  }

  // The names of the nodes that are left.
  std::vector<std::string> merged() const {
    Graph graph = graph_;
    optimize(graph);
    std::vector<std::string> names;
    for (std::size_t i = 1; i < graph.nodes.size(); ++i) names.push_back(graph.nodes[i].name);
    return names;
  }
  // Within the bound of docs/numerics.md, with two more roundings for each weight.
  void expect_sum() const {
    const Network network(graph_, x_.shape());
    Tensor y(network.output_shape());
    copy(network(x_.view()).view(), y.view());
    for (std::size_t i = 0; i < sum_.value.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(y.data()[i]), sum_.value[i],
                  testing::bound(sum_.magnitude[i], products_ + 2));
    }
  }

 private:
  Constant constant(const Shape& shape) {
    return std::make_shared<Tensor>(testing::random_tensor(shape, random_));
  }
  testing::Exact input() const {
    testing::Exact exact;
    for (std::int64_t i = 0; i < x_.shape().elements(); ++i) {
      exact.value.push_back(static_cast<double>(x_.data()[i]));
      exact.magnitude.push_back(std::abs(exact.value.back()));
    }
    return exact;
  }
  void normalize(const BatchNormNode& node, testing::Exact& exact) {
    products_ += 2;
    const std::size_t pixels = exact.value.size() / (2 * kChannels);
    const auto of = [](const Constant& c, std::size_t i) { return double{c->data()[i]}; };
    for (std::size_t i = 0; i < exact.value.size(); ++i) {
      const std::size_t c = i / pixels % kChannels;
      const double scale = of(node.weight, c) / std::sqrt(of(node.variance, c) + node.epsilon);
      exact.value[i] = (exact.value[i] - of(node.mean, c)) * scale + of(node.bias, c);
      exact.magnitude[i] = (exact.magnitude[i] + std::abs(of(node.mean, c))) * std::abs(scale) +
                           std::abs(of(node.bias, c));
    }
  }
  Branches& add(ValueId branch, const testing::Exact& exact) {
    if (sum_.value.empty()) {
      sum_ = exact;
      last_ = branch;
      return *this;
    }
    for (std::size_t i = 0; i < exact.value.size(); ++i) {
      sum_.value[i] += exact.value[i];
      sum_.magnitude[i] += exact.magnitude[i];
    }
    last_ = graph_.add("sum", AddNode{}, {last_, branch});
    return *this;
  }

  std::mt19937 random_;
  Tensor x_;
  Graph graph_;
  ValueId last_ = 0;
  testing::Exact sum_;
  std::int64_t products_ = 0;
};

using Names = std::vector<std::string>;

// Kernels that are not square, as Winograd's bound is another one.
TEST(MergeSums, MakesOneConvolutionOfBranches) {
  for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{2}, kChannels}) {
    Branches b(7);
    b.add(b.conv(1, 1, groups)).add(b.norm()).add(b.conv(5, 3, groups)).add(b.conv(3, 1, groups));
    b.normalize(b.norm());
    EXPECT_EQ(b.merged(), Names{"sum"}) << groups;
    b.expect_sum();
  }
}

TEST(MergeSums, TakesADepthwiseOnesInputIn) {
  Branches b(8);
  b.add_input().add(b.conv(3, 3, kChannels));
  EXPECT_EQ(b.merged(), Names{"sum"});
  b.expect_sum();
}

// A norm of the sum is folded first, then the input is added: FastViT's mixer.
TEST(MergeSums, GoesOnBehindANorm) {
  Branches b(9);
  b.add(b.conv(3, 3, kChannels)).add(b.norm()).normalize(b.norm()).add_input();
  EXPECT_EQ(b.merged(), Names{"sum"});
  b.expect_sum();
}

TEST(MergeSums, FindsTheSmallerWindowsPlace) {
  Branches b(10);
  Conv2dNode large = b.conv(5, 4, 1), small = b.conv(2, 1, 1);
  large.options.padding = Padding(3, 1, 1, 2);
  small.options.padding = Padding(1, 0, 0, 0);
  b.add(small).add(large);
  EXPECT_EQ(b.merged(), Names{"sum"});
  b.expect_sum();
}

TEST(MergeSums, DilatesAndStrides) {
  Branches b(11);
  Conv2dNode large = b.conv(3, 3, 1), small = b.conv(2, 1, 1), one = b.conv(1, 1, 1);
  large.options.padding = 2;
  small.options.padding = Padding(2, 0, 0, 0);
  large.options.dilation = small.options.dilation = 2;
  for (Conv2dNode* conv : {&large, &small, &one}) conv->options.stride = {2, 1};
  b.add(one).add(large).add(small);
  EXPECT_EQ(b.merged(), Names{"sum"});
  b.expect_sum();
}

TEST(MergeSums, LeavesWhatIsNoneOfItsWindows) {
  Branches crossed(12);
  crossed.add(crossed.conv(3, 1, 1)).add(crossed.conv(1, 3, 1));
  EXPECT_EQ(crossed.merged(), (Names{"conv", "conv"}));
  crossed.expect_sum();

  Branches between(13);  // the dilated one's taps
  Conv2dNode large = between.conv(3, 3, 1);
  large.options.dilation = 2;
  large.options.padding = 2;
  between.add(large).add(between.conv(3, 3, 1));
  EXPECT_EQ(between.merged(), (Names{"conv", "conv"}));
  between.expect_sum();

  Branches by_winograd(16);
  by_winograd.add(by_winograd.conv(3, 3, 1)).add(by_winograd.conv(1, 1, 1));
  EXPECT_EQ(by_winograd.merged(), (Names{"conv", "conv"}));

  Branches grouped(14);
  grouped.add(grouped.conv(1, 1, 2)).add(grouped.conv(3, 3, 1));
  EXPECT_EQ(grouped.merged(), (Names{"conv", "conv"}));
  grouped.expect_sum();
}

TEST(MergeSums, LeavesConvolutionsThatOthersReadOrThatActivate) {
  Branches b(15);
  for (const bool activates : {false, true}) {
    Conv2dNode one = b.conv(1, 1, 1), three = b.conv(3, 3, 1);
    if (activates) one.options.activation = ActivationKind::kRelu;
    Graph graph;
    const ValueId first = graph.add("one", one, {0}), second = graph.add("three", three, {0});
    const ValueId sum = graph.add("sum", AddNode{}, {first, second});
    if (!activates) graph.outputs = {first, sum};
    optimize(graph);
    ASSERT_EQ(graph.nodes.size(), 3u);
    EXPECT_EQ(graph.nodes[1].name, "one");
    EXPECT_EQ(graph.nodes[2].name, "three");
  }
}

}  // namespace
}  // namespace sepconv
