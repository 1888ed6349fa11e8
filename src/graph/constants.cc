#include <algorithm>
#include <map>

#include "base/sizes.h"
#include "graph/plan.h"

namespace sepconv {

namespace {

struct ConstantsOf {
  std::vector<Constant*>& found;

  void operator()(Conv2dNode& n) const { found = {&n.weight, &n.bias}; }
  void operator()(ConvTranspose2dNode& n) const { found = {&n.weight, &n.bias}; }
  void operator()(LinearNode& n) const { found = {&n.weight, &n.bias}; }
  void operator()(LayerNormNode& n) const { found = {&n.weight, &n.bias}; }
  void operator()(BatchNormNode& n) const { found = {&n.weight, &n.bias, &n.mean, &n.variance}; }
  void operator()(ResponseScaleNode& n) const { found = {&n.weight}; }
  void operator()(ClassTokensNode& n) const { found = {&n.token, &n.positions}; }
  void operator()(MixedDepthwiseNode& n) const {
    for (Constant& weight : n.weights) found.push_back(&weight);
    found.push_back(&n.bias);
  }
  template <class Other>
  void operator()(Other&) const {}
};

std::vector<Constant*> constants_of(Node& node) {
  std::vector<Constant*> found;
  std::visit(ConstantsOf{found}, node.op);
  return found;
}

bool same(const Constant& a, const Constant& b) {
  if (!a || !b || a == b || a->shape() != b->shape()) return a == b;
  // By their bits: a NaN is itself.
  const auto* p = reinterpret_cast<const std::byte*>(a->data());
  return std::equal(p, p + to_size(a->shape().elements()) * sizeof(float),
                    reinterpret_cast<const std::byte*>(b->data()));
}

}  // namespace

void share_constants(Graph& graph, const Graph& other) {
  std::map<std::string, const Node*> by_name;
  for (const Node& node : other.nodes) by_name[node.name] = &node;
  for (Node& node : graph.nodes) {
    const auto found = by_name.find(node.name);
    if (found == by_name.end()) continue;
    Node theirs = *found->second;
    const std::vector<Constant*> ours = constants_of(node), shared = constants_of(theirs);
    for (std::size_t i = 0; i < std::min(ours.size(), shared.size()); ++i) {
      if (same(*ours[i], *shared[i])) *ours[i] = *shared[i];
    }
  }
}

}  // namespace sepconv
