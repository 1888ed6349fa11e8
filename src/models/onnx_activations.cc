#include <cmath>
#include <numbers>

#include "models/onnx_import.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;

Values import_activation(OnnxImport& net, const OnnxNode& node, const Values& in) {
  static const std::map<std::string, ActivationKind> kinds = {
      {"Relu", ActivationKind::kRelu},
      {"Sigmoid", ActivationKind::kSigmoid},
      {"HardSwish", ActivationKind::kHardSwish},
      {"HardSigmoid", ActivationKind::kHardSigmoid},
      {"Gelu", ActivationKind::kGelu}};
  ActivationKind kind = kinds.at(node.type);
  const auto approximate = node.attributes.find("approximate");
  if (approximate != node.attributes.end() && approximate->second.text == "tanh") {
    kind = ActivationKind::kGeluTanh;
  }
  if (kind == ActivationKind::kHardSigmoid &&
      (!nearly(static_cast<double>(number_of(node, "alpha", 0.2F)), 1.0 / 6) ||
       number_of(node, "beta", 0.5F) != 0.5F)) {
    throw Unsupported("with other than alpha 1/6 and beta 1/2");
  }
  return {net.add_same(node.name, ActivationNode{kind}, net.real(in[0]))};
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
    if (axis != -1 && axis != 3) throw Unsupported("of scores over another axis");
    Expression weights = *s;
    weights.what = "attention weights";
    return {make(std::move(weights))};
  }
  const View x = net.image(in[0]);
  if (x.dims.size() != 2 || axis_of(axis, 2) != 1) throw Unsupported("over other than [N, C]");
  return {net.add_view(node.name, SoftmaxNode{}, {net.as_vector(x, node.name)})};
}

}  // namespace sepconv::models
