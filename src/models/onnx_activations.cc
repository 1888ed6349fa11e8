#include <cmath>
#include <numbers>

#include "models/onnx_import.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;

Values import_activation(OnnxImport& net, const OnnxNode& node, const Values& in) {
  static const std::map<std::string, ActivationKind> kinds = {
      {"Relu", ActivationKind::kRelu},
      {"LeakyRelu", ActivationKind::kLeakyRelu},
      {"Sigmoid", ActivationKind::kSigmoid},
      {"HardSwish", ActivationKind::kHardSwish},
      {"HardSigmoid", ActivationKind::kHardSigmoid},
      {"Gelu", ActivationKind::kGelu}};
  ActivationKind kind = kinds.at(node.type);
  const auto approximate = node.attributes.find("approximate");
  if (approximate != node.attributes.end() && approximate->second.text == "tanh") {
    kind = ActivationKind::kGeluTanh;
  }
  View x = view(in[0]);
  if (kind == ActivationKind::kLeakyRelu) {
    const Activation leaky = Activation::leaky_relu(number_of(node, "alpha", 0.01F));
    return {net.add_same(node.name, ActivationNode{leaky}, net.real(x))};
  }
  if (kind == ActivationKind::kHardSigmoid) {
    // clip(alpha · x + beta, 0, 1) is ours of 6 alpha · x + 6 beta − 3.
    const double alpha = static_cast<double>(number_of(node, "alpha", 0.2F));
    const double beta = static_cast<double>(number_of(node, "beta", 0.5F));
    const double scale = nearly(6 * alpha, 1) ? 1 : 6 * alpha;
    x.shift = x.shift * scale + 6 * beta - 3;
    x.scale *= scale;
  }
  return {net.add_same(node.name, ActivationNode{kind}, net.real(x))};
}

Values import_clip(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const auto limit = [&](std::size_t i, const char* name, float otherwise) {
    const auto given = i < in.size() ? scalar(in[i]) : std::nullopt;
    return given ? static_cast<float>(*given) : number_of(node, name, otherwise);
  };
  const float lo = limit(1, "min", -INFINITY), hi = limit(2, "max", INFINITY);
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

Values import_erf(OnnxImport&, const OnnxNode&, const Values& in) {
  const View& x = view(in[0]);
  if (!nearly(x.scale, 1 / std::numbers::sqrt2) || x.shift != 0)
    throw Unsupported("but for a gelu");
  return {make({.what = "erf", .of = x})};
}

Values import_softmax(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const std::int64_t axis = integer_of(node, "axis", net.opset < 13 ? 1 : -1);
  if (const Expression* s = expression(in[0], "attention scores")) {
    const std::size_t rank = s->of.dims.size();
    if (axis_of(axis, rank) + 1 != rank) throw Unsupported("of scores over another axis");
    Expression weights = *s;
    weights.what = "attention weights";
    return {make(std::move(weights))};
  }
  const View x = net.real(in[0]);
  const std::size_t i = axis_of(axis, x.dims.size());
  const Dims sizes = x.sizes();
  // Up to operator set 12 all axes from the given one on are one.
  std::int64_t behind = 1;
  for (std::size_t j = i + 1; net.opset < 13 && j < sizes.size(); ++j) behind *= sizes[j];
  if (!is_axis(x, i, 1, net.shape(x)) || behind != 1) throw Unsupported("over other than channels");
  return {net.add_same(node.name, SoftmaxNode{}, x)};
}

}  // namespace sepconv::models
