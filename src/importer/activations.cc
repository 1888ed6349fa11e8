// Activations, and functions of single elements.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "importer/constants.h"
#include "importer/handlers.h"
#include "importer/operands.h"

namespace sepconv::importer {

namespace {

View elu(GraphBuilder& net, const OnnxNode& node, View x) {
  if (node.type == "Selu") {
    const Activation a = Activation::elu(number_of(node, "alpha", 1.67326319F));
    View y = net.add_same(node.name, ActivationNode{a}, net.real(x));
    y.scale = static_cast<double>(number_of(node, "gamma", 1.05070102F));
    return y;
  }
  const float alpha = number_of(node, "alpha", 1.0F);
  if (node.type == "Elu") {
    return net.add_same(node.name, ActivationNode{Activation::elu(alpha)}, net.real(x));
  }
  // alpha · elu(x / alpha).
  x = net.real(x.times(1 / static_cast<double>(alpha)));
  View y = net.add_same(node.name, ActivationNode{ActivationKind::kElu}, x);
  y.scale = static_cast<double>(alpha);
  return y;
}

}  // namespace

Values import_activation(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  static const std::map<std::string, ActivationKind> kinds = {
      {"Relu", ActivationKind::kRelu},
      {"LeakyRelu", ActivationKind::kLeakyRelu},
      {"Sigmoid", ActivationKind::kSigmoid},
      {"HardSwish", ActivationKind::kHardSwish},
      {"HardSigmoid", ActivationKind::kHardSigmoid},
      {"Gelu", ActivationKind::kGelu},
      {"Tanh", ActivationKind::kTanh},
      {"Elu", ActivationKind::kElu},
      {"Selu", ActivationKind::kElu},
      {"Celu", ActivationKind::kElu},
      {"Softplus", ActivationKind::kSoftplus},
      {"Swish", ActivationKind::kSilu},
      {"Mish", ActivationKind::kMish}};
  ActivationKind kind = kinds.at(node.type);
  if (text_of(node, "approximate", "none") == "tanh") kind = ActivationKind::kGeluTanh;
  View x = view(in[0]);
  if (kind == ActivationKind::kLeakyRelu) {
    const Activation leaky = Activation::leaky_relu(number_of(node, "alpha", 0.01F));
    return {net.add_same(node.name, ActivationNode{leaky}, net.real(x))};
  }
  if (kind == ActivationKind::kElu) return {elu(net, node, x)};
  if (kind == ActivationKind::kSilu) {
    // x · sigmoid(alpha · x).
    const auto alpha = static_cast<double>(number_of(node, "alpha", 1.0F));
    if (alpha == 0) return {x.times(0.5)};
    const View scaled = net.real(x.times(alpha));
    return {net.add_same(node.name, ActivationNode{kind}, scaled).times(1 / alpha)};
  }
  if (kind == ActivationKind::kHardSigmoid) {
    // clip(alpha · x + beta, 0, 1) is ours of 6 alpha · x + 6 beta − 3.
    const double alpha = static_cast<double>(number_of(node, "alpha", 0.2F));
    const double beta = static_cast<double>(number_of(node, "beta", 0.5F));
    const double scale = nearly(6 * alpha, 1) ? 1 : 6 * alpha;
    x = x.times(scale).plus(6 * beta - 3);
  }
  return {net.add_same(node.name, ActivationNode{kind}, net.real(x))};
}

Values import_function(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  static const std::map<std::string, Function> functions = {
      {"Abs", Function::kAbs},  {"Cos", Function::kCos}, {"Sin", Function::kSin},
      {"Exp", Function::kExp},  {"Log", Function::kLog}, {"Reciprocal", Function::kReciprocal},
      {"Sqrt", Function::kSqrt}};
  const auto* root = expression<RootMeanSquare>(in[0]);
  if (root && !root->inverse && node.type == "Reciprocal") {
    return {waiting(RootMeanSquare{root->of, root->epsilon, true})};
  }
  return {net.add_same(node.name, FunctionNode{functions.at(node.type)}, net.real(in[0]))};
}

Values import_prelu(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  View x = net.real(in[0]);
  const OnnxConstant c = constant(in, 1);
  if (const auto slope = scalar(in[1])) {
    const Activation leaky = Activation::leaky_relu(static_cast<float>(*slope));
    return {net.add_same(node.name, ActivationNode{leaky}, x)};
  }
  auto slopes = net.by_channel(x, c);
  if (!slopes && x.dims.size() > 1) {
    x = net.matrices(x, 1);
    slopes = net.by_channel(x, c);
  }
  if (!slopes) throw Unsupported("but for a slope for each channel");
  return {net.add_same(node.name, PReluNode{vector_of(*slopes)}, x)};
}

Values import_clip(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const auto limit = [&](std::size_t i, const char* name, float otherwise) {
    const auto given = i < in.size() ? scalar(in[i]) : std::nullopt;
    return given ? static_cast<float>(*given) : number_of(node, name, otherwise);
  };
  const float lo = limit(1, "min", -INFINITY), hi = limit(2, "max", INFINITY);
  if (const auto* norms = expression<Norms>(in[0])) {
    if (std::isfinite(hi)) throw Unsupported("of norms from above");
    Norms some = *norms;
    some.least = std::max(some.least, static_cast<double>(lo));
    return {waiting(std::move(some))};
  }
  View x = view(in[0]);
  if (x.scale == 1 && x.shift == 3 && lo == 0 && hi == 6) {
    x.shift = 0;
    View y = net.add_same(node.name, ActivationNode{ActivationKind::kHardSigmoid}, net.real(x));
    y.scale = 6;
    return {y};
  }
  const bool relu6 = lo == 0 && hi == 6;
  const Activation a = relu6 ? Activation(ActivationKind::kRelu6) : Activation::clamp(lo, hi);
  return {net.add_same(node.name, ActivationNode{a}, net.real(x))};
}

// Of any number of values and numbers; the smaller of two is the larger of both negated.
Values import_maximum(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const bool least = node.type == "Min";
  std::optional<View> result;
  float limit = -INFINITY;
  const auto turned = [least](const View& v) { return least ? v.times(-1) : v; };
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (const auto number = scalar(in[i])) {
      limit = std::max(limit, static_cast<float>(least ? -*number : *number));
      continue;
    }
    const View x = turned(view(in[i]));
    if (!result) {
      result = x;
      continue;
    }
    const auto [a, b] = alike(net, *result, x);
    result = net.add_same(node.name, MaximumNode{}, a, {b.id});
  }
  if (!result) throw Unsupported("of constants");
  if (limit > -INFINITY) {
    const Activation clamp =
        limit == 0 ? Activation(ActivationKind::kRelu) : Activation::clamp(limit, INFINITY);
    result = net.add_same(node.name, ActivationNode{clamp}, net.real(*result));
  }
  return {turned(*result)};
}

Values import_erf(GraphBuilder&, const OnnxNode&, const Values& in) {
  const View& x = view(in[0]);
  if (!nearly(x.scale, 1 / std::numbers::sqrt2) || x.shift != 0)
    throw Unsupported("but for a gelu");
  return {waiting(Erf{x})};
}

Values import_softmax(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const std::int64_t axis = integer_of(node, "axis", net.opset < 13 ? 1 : -1);
  const auto* scores = expression<AttentionScores>(in[0]);
  if (scores && node.type == "Softmax") {
    const std::size_t rank = scores->queries.dims.size();
    if (axis_of(axis, rank) + 1 != rank) throw Unsupported("of scores over another axis");
    return {waiting(AttentionWeights{*scores})};
  }
  View x = net.real(in[0]);
  const std::size_t i = axis_of(axis, x.dims.size());
  const Dims sizes = x.sizes();
  // Up to operator set 12 all axes from the given one on are one.
  std::int64_t behind = 1;
  for (std::size_t j = i + 1; net.opset < 13 && j < sizes.size(); ++j) behind *= sizes[j];
  if (behind != 1) throw Unsupported("over more than one axis");
  if (!is_axis(x, i, 1, net.shape(x))) x = net.matrices(x, i);
  return {net.add_same(node.name, SoftmaxNode{node.type == "LogSoftmax"}, x)};
}

}  // namespace sepconv::importer
