#include <algorithm>

#include "graph/affine.h"
#include "graph/plan.h"
#include "sepconv/graph.h"

namespace sepconv {

std::vector<int> count_uses(const Graph& graph) {
  std::vector<int> uses(graph.nodes.size(), 0);
  for (const Node& node : graph.nodes) {
    for (ValueId input : node.inputs) ++uses[input];
  }
  for (const ValueId output : graph.outputs) ++uses[output];
  return uses;
}

bool is_depthwise(const Conv2dNode& conv) {
  return conv.groups > 1 && conv.weight->shape()[1] == 1;
}

namespace {

// Lets every reader of `from` read `to` instead.
void replace_value(Graph& graph, ValueId from, ValueId to) {
  for (Node& node : graph.nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  std::replace(graph.outputs.begin(), graph.outputs.end(), from, to);
}

bool is_plain(const Conv2dNode& conv) {
  return conv.options.activation == Activation() && !conv.options.residual;
}

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
  if (auto* conv = std::get_if<ConvTranspose2dNode>(&source.op)) {
    if (conv->activation != Activation()) return false;
    fold_weight(conv->weight, affine, 0);
    fold_bias(conv->bias, affine);
    return true;
  }
  if (auto* linear = std::get_if<LinearNode>(&source.op)) {
    if (linear->activation != Activation()) return false;
    fold_weight(linear->weight, affine, 0);
    fold_bias(linear->bias, affine);
    return true;
  }
  if (auto* before = std::get_if<BatchNormNode>(&source.op)) {
    if (before->activation != Activation()) return false;
    fold_weight(before->weight, affine, 0);
    fold_bias(before->bias, affine);
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

// Input channel c of weights [Cout, C / groups, …] times its scale, and what its shift comes to
// added to the bias.
void fold_ahead(Constant& weight, Constant& bias, std::int64_t groups, const Affine& affine) {
  const Shape& shape = weight->shape();
  const std::int64_t each = shape[1],
                     taps = shape.elements() / std::max<std::int64_t>(shape[0] * each, 1);
  auto folded = std::make_shared<Tensor>(shape);
  auto shifted = std::make_shared<Tensor>(Shape{shape[0]});
  for (std::int64_t o = 0; o < shape[0]; ++o) {
    double sum = bias ? static_cast<double>(bias->data()[o]) : 0.0;
    const std::int64_t first = o / (shape[0] / groups) * each;
    for (std::int64_t i = 0; i < each * taps; ++i) {
      const auto c = static_cast<std::size_t>(first + i / taps);
      const double w = static_cast<double>(weight->data()[o * each * taps + i]);
      folded->data()[o * each * taps + i] = static_cast<float>(w * affine.scale[c]);
      sum += w * affine.shift[c];
    }
    shifted->data()[o] = static_cast<float>(sum);
  }
  weight = std::move(folded);
  bias = std::move(shifted);
}

// Whether the norm could be folded into a node that reads it and pads nothing: padding is zero
// after the norm.
bool fold_ahead(Node& reader, const BatchNormNode& norm) {
  const Affine affine(norm);
  if (auto* conv = std::get_if<Conv2dNode>(&reader.op)) {
    if (conv->same_padding || conv->options.padding != Padding(0)) return false;
    fold_ahead(conv->weight, conv->bias, conv->groups, affine);
    return true;
  }
  auto* linear = std::get_if<LinearNode>(&reader.op);
  if (linear) fold_ahead(linear->weight, linear->bias, 1, affine);
  return linear != nullptr;
}

}  // namespace

void fold_batch_norm(Graph& graph) {
  std::vector<int> uses = count_uses(graph);
  for (ValueId i = 0; i < graph.nodes.size(); ++i) {
    const auto* norm = std::get_if<BatchNormNode>(&graph.nodes[i].op);
    if (!norm || norm->activation != Activation()) continue;
    const ValueId source = graph.nodes[i].inputs[0];
    bool folded = uses[source] == 1 && fold_into(graph.nodes[source], *norm);
    for (ValueId j = i + 1; j < graph.nodes.size() && !folded && uses[i] == 1; ++j) {
      Node& reader = graph.nodes[j];
      const bool reads = !reader.inputs.empty() && reader.inputs[0] == i;
      folded = reads && fold_ahead(reader, *norm);
    }
    if (!folded) continue;
    replace_value(graph, i, source);
    uses[source] += uses[i] - 1;
  }
  remove_unused(graph);
}

namespace {

// Where a node keeps the activation that it ends with, or null if it has no place for one.
Activation* activation_of(Node& node) {
  if (auto* conv = std::get_if<Conv2dNode>(&node.op)) return &conv->options.activation;
  if (auto* conv = std::get_if<ConvTranspose2dNode>(&node.op)) return &conv->activation;
  if (auto* mixed = std::get_if<MixedDepthwiseNode>(&node.op)) return &mixed->activation;
  if (auto* linear = std::get_if<LinearNode>(&node.op)) return &linear->activation;
  if (auto* norm = std::get_if<BatchNormNode>(&node.op)) return &norm->activation;
  if (auto* norm = std::get_if<ScaleShiftNode>(&node.op)) return &norm->activation;
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
      if (!conv || is_depthwise(*conv) || conv->options.residual || uses[source] != 1 ||
          other > source) {
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

void fuse_scales(Graph& graph, const std::vector<Shape>& shapes) {
  const std::vector<int> uses = count_uses(graph);
  for (ValueId j = 0; j < graph.nodes.size(); ++j) {
    Node& reader = graph.nodes[j];
    auto* conv = std::get_if<Conv2dNode>(&reader.op);
    if (!conv || conv->scaled) continue;
    const ValueId i = reader.inputs[0];
    const Shape& w = conv->weight->shape();
    const bool pointwise = w[2] == 1 && w[3] == 1 && (w[1] > 1 || conv->groups == 1);
    const bool fewer = w[0] / conv->groups <= shapes[j][2] * shapes[j][3];
    if (!std::holds_alternative<ScaleNode>(graph.nodes[i].op) || uses[i] != 1 || !pointwise ||
        !fewer || conv->options.padding != Padding(0)) {
      continue;
    }
    conv->scaled = true;
    reader.inputs[0] = graph.nodes[i].inputs[0];
    reader.inputs.push_back(graph.nodes[i].inputs[1]);
  }
  remove_unused(graph);
}

void remove_unused(Graph& graph) {
  graph.stages.clear();
  std::vector<bool> used(graph.nodes.size(), false);
  used[0] = true;
  for (const ValueId output : graph.outputs) used[output] = true;
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
  for (ValueId& output : graph.outputs) output = place[output];
}

void optimize(Graph& graph) {
  remove_unused(graph);
  fold_batch_norm(graph);
  while (merge_sums(graph)) fold_batch_norm(graph);
  fuse_activations(graph);
  fuse_residuals(graph);
  fuse_activations(graph);
}

void split_global_pools(Graph& graph, const std::vector<Shape>& shapes) {
  std::vector<ValueId> place;
  std::vector<Node> nodes;
  for (ValueId i = 0; i < graph.nodes.size(); ++i) {
    Node& node = graph.nodes[i];
    const Shape x = node.inputs.empty() ? Shape() : shapes[node.inputs[0]];
    for (ValueId& input : node.inputs) input = place[input];
    if (std::holds_alternative<GlobalAveragePoolNode>(node.op) && x[2] > 1 && x[3] > 1) {
      Pool2dNode rows;
      rows.kind = Pool::kAverage;
      rows.options.kernel = rows.options.stride = {1, x[3]};
      nodes.push_back({node.name + ".rows", rows, node.inputs});
      node.inputs = {nodes.size() - 1};
    }
    place.push_back(nodes.size());
    nodes.push_back(std::move(node));
  }
  graph.nodes = std::move(nodes);
  for (ValueId& output : graph.outputs) output = place[output];
}

std::string fused_into(const Node& node) {
  std::string text;
  const auto append = [&](const std::string& part) { text += (text.empty() ? "" : " + ") + part; };
  const auto* conv = std::get_if<Conv2dNode>(&node.op);
  const auto* transposed = std::get_if<ConvTranspose2dNode>(&node.op);
  const auto* mixed = std::get_if<MixedDepthwiseNode>(&node.op);
  const auto* linear = std::get_if<LinearNode>(&node.op);
  if (conv && conv->scaled) append("scale");
  const bool residual = conv && conv->options.residual;
  const bool before = residual && conv->options.residual_before_activation;
  if ((conv && conv->bias) || (transposed && transposed->bias) || (mixed && mixed->bias) ||
      (linear && linear->bias))
    append("bias");
  if (before) append("residual");
  Node copy = node;
  const Activation* activation = activation_of(copy);
  if (activation && *activation != Activation()) append(to_string(*activation));
  if (residual && !before) append("residual");
  return text;
}

}  // namespace sepconv
