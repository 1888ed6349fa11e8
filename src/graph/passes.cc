#include <algorithm>
#include <cmath>
#include <optional>

#include "sepconv/graph.h"

namespace sepconv {

namespace {

std::vector<int> count_uses(const Graph& graph) {
  std::vector<int> uses(graph.nodes.size(), 0);
  for (const Node& node : graph.nodes) {
    for (ValueId input : node.inputs) ++uses[input];
  }
  ++uses[graph.output];
  return uses;
}

// Lets every reader of `from` read `to` instead.
void replace_value(Graph& graph, ValueId from, ValueId to) {
  for (Node& node : graph.nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  if (graph.output == from) graph.output = to;
}

bool is_plain(const Conv2dNode& conv) {
  return conv.options.activation == Activation() && !conv.options.residual;
}

// What a norm does to each channel: y = x · scale + shift.
struct Affine {
  explicit Affine(const BatchNormNode& norm) {
    for (std::int64_t c = 0; c < norm.mean->shape()[0]; ++c) {
      const double deviation =
          std::sqrt(static_cast<double>(norm.variance->data()[c]) + norm.epsilon);
      scale.push_back(static_cast<double>(norm.weight->data()[c]) / deviation);
      shift.push_back(static_cast<double>(norm.bias->data()[c]) -
                      static_cast<double>(norm.mean->data()[c]) * scale.back());
    }
  }
  std::vector<double> scale, shift;
};

// Output channel c of the weights times scale[first + c].
void fold_weight(Constant& weight, const Affine& affine, std::size_t first) {
  const std::int64_t channels = weight->shape()[0];
  const std::int64_t depth = weight->shape().elements() / std::max<std::int64_t>(channels, 1);
  auto folded = std::make_shared<Tensor>(weight->shape());
  for (std::int64_t c = 0; c < channels; ++c) {
    const double scale = affine.scale[first + static_cast<std::size_t>(c)];
    for (std::int64_t i = c * depth; i < (c + 1) * depth; ++i) {
      folded->data()[i] = static_cast<float>(static_cast<double>(weight->data()[i]) * scale);
    }
  }
  weight = std::move(folded);
}

void fold_bias(Constant& bias, const Affine& affine) {
  auto folded = std::make_shared<Tensor>(Shape{static_cast<std::int64_t>(affine.scale.size())});
  for (std::size_t c = 0; c < affine.scale.size(); ++c) {
    const double before = bias ? static_cast<double>(bias->data()[c]) : 0.0;
    folded->data()[c] = static_cast<float>(before * affine.scale[c] + affine.shift[c]);
  }
  bias = std::move(folded);
}

// Whether the norm could be folded into the node that it reads.
bool fold_into(Node& source, const BatchNormNode& norm) {
  const Affine affine(norm);
  if (auto* conv = std::get_if<Conv2dNode>(&source.op)) {
    if (!is_plain(*conv)) return false;
    fold_weight(conv->weight, affine, 0);
    fold_bias(conv->bias, affine);
    return true;
  }
  auto* mixed = std::get_if<MixedDepthwiseNode>(&source.op);
  if (!mixed || mixed->activation != Activation()) return false;
  std::size_t first = 0;
  for (Constant& weight : mixed->weights) {
    fold_weight(weight, affine, first);
    first += static_cast<std::size_t>(weight->shape()[0]);
  }
  fold_bias(mixed->bias, affine);
  return true;
}

// A norm that follows no convolution is one itself: depthwise, 1×1.
Conv2dNode as_convolution(const BatchNormNode& norm) {
  const std::int64_t channels = norm.mean->shape()[0];
  auto ones = std::make_shared<Tensor>(Shape{channels, 1, 1, 1});
  std::fill_n(ones->data(), channels, 1.0F);
  Conv2dNode conv;
  conv.weight = std::move(ones);
  conv.groups = channels;
  const Affine affine(norm);
  fold_weight(conv.weight, affine, 0);
  fold_bias(conv.bias, affine);
  return conv;
}

}  // namespace

void fold_batch_norm(Graph& graph) {
  const std::vector<int> uses = count_uses(graph);
  for (ValueId i = 0; i < graph.nodes.size(); ++i) {
    const auto* norm = std::get_if<BatchNormNode>(&graph.nodes[i].op);
    if (!norm) continue;
    const ValueId source = graph.nodes[i].inputs[0];
    if (uses[source] != 1 || !fold_into(graph.nodes[source], *norm)) {
      Conv2dNode own = as_convolution(*norm);
      graph.nodes[i].op = std::move(own);
      continue;
    }
    replace_value(graph, i, source);
  }
  remove_unused(graph);
}

namespace {

// Where a node keeps the activation that it ends with, or null if it has no place for one.
Activation* activation_of(Node& node) {
  if (auto* conv = std::get_if<Conv2dNode>(&node.op)) return &conv->options.activation;
  if (auto* mixed = std::get_if<MixedDepthwiseNode>(&node.op)) return &mixed->activation;
  if (auto* linear = std::get_if<LinearNode>(&node.op)) return &linear->activation;
  if (auto* add = std::get_if<AddNode>(&node.op)) return &add->activation;
  return nullptr;
}

}  // namespace

void fuse_activations(Graph& graph) {
  const std::vector<int> uses = count_uses(graph);
  for (ValueId i = 0; i < graph.nodes.size(); ++i) {
    const auto* node = std::get_if<ActivationNode>(&graph.nodes[i].op);
    if (!node) continue;
    const ValueId source = graph.nodes[i].inputs[0];
    Activation* place = activation_of(graph.nodes[source]);
    if (uses[source] != 1 || !place || *place != Activation()) continue;
    *place = node->activation;
    if (auto* conv = std::get_if<Conv2dNode>(&graph.nodes[source].op)) {
      conv->options.residual_before_activation = conv->options.residual;
    }
    replace_value(graph, i, source);
  }
  remove_unused(graph);
}

void fuse_residuals(Graph& graph) {
  const std::vector<int> uses = count_uses(graph);
  for (ValueId i = 0; i < graph.nodes.size(); ++i) {
    const auto* add = std::get_if<AddNode>(&graph.nodes[i].op);
    if (!add) continue;
    for (const std::size_t side : {std::size_t{1}, std::size_t{0}}) {
      const ValueId source = graph.nodes[i].inputs[side];
      const ValueId other = graph.nodes[i].inputs[1 - side];
      const auto* conv = std::get_if<Conv2dNode>(&graph.nodes[source].op);
      // A depthwise kernel takes no residual, and what is added must exist when the conv runs.
      const bool depthwise = conv && conv->groups > 1 && conv->weight->shape()[1] == 1;
      if (!conv || depthwise || conv->options.residual || uses[source] != 1 || other > source) {
        continue;
      }
      Conv2dOptions& target = std::get<Conv2dNode>(graph.nodes[source].op).options;
      if (add->activation != Activation()) {
        if (target.activation != Activation()) continue;
        target.activation = add->activation;
        target.residual_before_activation = true;
      }
      target.residual = true;
      graph.nodes[source].inputs.push_back(other);
      replace_value(graph, i, source);
      break;
    }
  }
  remove_unused(graph);
}

void remove_unused(Graph& graph) {
  std::vector<bool> used(graph.nodes.size(), false);
  used[0] = used[graph.output] = true;
  for (ValueId i = graph.nodes.size(); i-- > 0;) {
    if (!used[i]) continue;
    for (ValueId input : graph.nodes[i].inputs) used[input] = true;
  }
  std::vector<ValueId> place(graph.nodes.size());
  std::vector<Node> kept;
  for (ValueId i = 0; i < graph.nodes.size(); ++i) {
    if (!used[i]) continue;
    place[i] = kept.size();
    kept.push_back(std::move(graph.nodes[i]));
    for (ValueId& input : kept.back().inputs) input = place[input];
  }
  graph.nodes = std::move(kept);
  graph.output = place[graph.output];
}

void optimize(Graph& graph) {
  remove_unused(graph);
  fold_batch_norm(graph);
  fuse_activations(graph);
  fuse_residuals(graph);
  fuse_activations(graph);
}

std::string fused_into(const Node& node) {
  std::string text;
  const auto append = [&](const std::string& part) { text += (text.empty() ? "" : " + ") + part; };
  const auto* conv = std::get_if<Conv2dNode>(&node.op);
  const auto* mixed = std::get_if<MixedDepthwiseNode>(&node.op);
  const auto* linear = std::get_if<LinearNode>(&node.op);
  const bool residual = conv && conv->options.residual;
  const bool before = residual && conv->options.residual_before_activation;
  if ((conv && conv->bias) || (mixed && mixed->bias) || (linear && linear->bias)) append("bias");
  if (before) append("residual");
  Node copy = node;
  const Activation* activation = activation_of(copy);
  if (activation && *activation != Activation()) append(to_string(*activation));
  if (residual && !before) append("residual");
  return text;
}

}  // namespace sepconv
