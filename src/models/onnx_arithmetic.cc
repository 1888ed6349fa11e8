// Sums, products and means, and what exporters take apart into them.

#include <fmt/format.h>

#include "base/sizes.h"
#include "models/onnx_import.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;

namespace {

// What a number added to an expression, or a constant to the response of a norm, makes of it; null
// if nothing.
std::optional<Value> sum_with(OnnxImport& net, const Value& a, const OnnxConstant& c) {
  const auto number = scalar(c);
  for (const char* what : {"a variance", "a mean of norms"}) {
    const Expression* e = expression(a, what);
    if (!e || !number) continue;
    Expression sum = *e;
    sum.number += *number;
    return make(std::move(sum));
  }
  if (const Expression* e = expression(a, "erf"); e && number == 1.0) {
    Expression sum = *e;
    sum.what = "1 + erf";
    sum.number = 1;
    return make(std::move(sum));
  }
  if (const Expression* e = expression(a, "a response"); e && net.by_channel(e->of, c)) {
    Expression sum = *e;
    sum.shift = net.by_channel(e->of, c);
    return make(std::move(sum));
  }
  return std::nullopt;
}

// x + response(x): a global response norm, whose scale is 1 + weight · ….
View response_norm(OnnxImport& net, const std::string& name, const View& x, const Expression& e) {
  if (!e.of.same_elements(x) || !x.plain()) {
    throw Unsupported("of a response and another value");
  }
  const std::size_t n = to_size(net.channels(x));
  const ValueId factors =
      net.add(name + ".factors",
              ResponseScaleNode{vector_of(e.scale.value_or(Floats(n, 1))), e.number}, {x.id});
  const View y = net.add_same(name, ScaleNode{}, x, {factors});
  return e.shift ? net.affine(name, y, Floats(n, 1), *e.shift) : y;
}

}  // namespace

Values import_add(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const Value &a = in[0], &b = in[1];
  if (std::holds_alternative<OnnxConstant>(a)) return import_add(net, node, {b, a});
  if (const Expression* e = expression(b, "a response")) {
    return {response_norm(net, node.name, view(a), *e)};
  }
  const OnnxConstant c = constant(in, 1);
  if (const Expression* e = expression(a, "attention scores"); e && c) {
    return {biased_scores(net, *e, c)};
  }
  if (const Expression* e = expression(a, "tokens behind a class token")) {
    return {class_tokens(net, node.name, *e, c)};
  }
  if (c) {
    if (const auto sum = sum_with(net, a, c)) return {*sum};
    if (const auto number = scalar(c)) {
      View x = view(a);
      x.shift += *number;
      return {x};
    }
    const View x = net.real(a);
    if (const auto shift = net.by_channel(x, c)) {
      return {net.affine(node.name, x, Floats(shift->size(), 1), *shift)};
    }
    Constant map = net.map_for(x, c);
    if (!map) throw Unsupported("of a constant of another shape");
    return {net.add_same(node.name, AddMapNode{std::move(map)}, x)};
  }
  const View x = net.real(a), y = net.real(b);
  if (x.dims != y.dims) throw Unsupported("of two values of different shapes");
  View sum = x;
  sum.id = net.add(node.name, AddNode{}, {x.id, y.id});
  return {sum};
}

Values import_sub(OnnxImport& net, const OnnxNode& node, const Values& in) {
  if (const Expression* mean = expression(in[1], "a mean over channels")) {
    if (std::holds_alternative<View>(in[0]) && mean->of.same_elements(view(in[0]))) {
      return {make({.what = "a value without its mean", .of = mean->of})};
    }
  }
  if (const OnnxConstant c = constant(in, 1)) {
    auto negative = std::make_shared<io::OnnxTensor>(*c);
    for (float& v : negative->floats) v = -v;
    for (std::int64_t& v : negative->integers) v = -v;
    return import_add(net, node, {in[0], OnnxConstant(negative)});
  }
  if (const auto number = scalar(in[0])) {
    View x = view(in[1]);
    x.scale = -x.scale;
    x.shift = *number - x.shift;
    return {x};
  }
  View negative = view(in[1]);
  negative.scale = -negative.scale;
  negative.shift = -negative.shift;
  return import_add(net, node, {in[0], negative});
}

namespace {

// What a value times its gate is: an activation, and a factor that is left.
std::optional<std::pair<ActivationKind, double>> gated_by(OnnxImport& net, const View& value,
                                                          const View& gate) {
  const Node& node = net.graph.nodes[gate.id];
  const auto* activation = std::get_if<ActivationNode>(&node.op);
  if (!activation || gate.shift != 0 || gate.dims != value.dims) return std::nullopt;
  const ValueId of = node.inputs[0];
  View above = value;  // x + 3, whose relu6 is six times the gate of a hard-swish
  above.shift += 3;
  switch (activation->activation.kind) {
    case ActivationKind::kSigmoid:
      if (net.is_real(of, value)) return std::pair(ActivationKind::kSilu, 1.0);
      break;
    case ActivationKind::kHardSigmoid:
      if (net.is_real(of, value)) return std::pair(ActivationKind::kHardSwish, 1.0);
      break;
    case ActivationKind::kRelu6:
      if (net.is_real(of, above)) return std::pair(ActivationKind::kHardSwish, 6.0);
      break;
    default:
      break;
  }
  return std::nullopt;
}

// Two values: a SiLU or hard-swish with its gate, a factor for each channel, or one for each
// element.
View product(OnnxImport& net, const OnnxNode& node, const View& x, const View& y) {
  for (const auto& [value, gate] : {std::pair(x, y), std::pair(y, x)}) {
    if (const auto gated = gated_by(net, value, gate)) {
      View z = net.add_same(node.name, ActivationNode{gated->first}, net.real(value));
      z.scale = gate.scale * gated->second;
      return z;
    }
  }
  if (x.dims == y.dims) {
    const View a = net.real(x), b = net.real(y);
    if (net.shape(a) == net.shape(b)) return net.add_same(node.name, MultiplyNode{}, a, {b.id});
  }
  const View a = net.image(x), b = net.image(y);
  const auto is_vector = [&net](const View& v) {
    return net.shape(v).rank() == 2 || net.shape(v)[2] * net.shape(v)[3] == 1;
  };
  if (a.dims.size() == 4 && b.dims.size() == 4 && (is_vector(a) || is_vector(b))) {
    const View& factor = is_vector(b) ? b : a;
    const View& of = is_vector(b) ? a : b;
    if (net.shape(of).rank() == 4) {
      return net.add_same(node.name, ScaleNode{}, of, {net.as_vector(factor, node.name)});
    }
  }
  if (a.dims != b.dims) throw Unsupported("of two values of different shapes");
  return net.add_same(node.name, MultiplyNode{}, a, {b.id});
}

// A value and what stands for part of an activation or a norm.
Value product(OnnxImport& net, const OnnxNode& node, const View& x, const Expression& e) {
  if (!e.of.same_elements(x) || x.shift != 0) {
    throw Unsupported(fmt::format("of {} and another value", e.what));
  }
  if (e.what == "1 + erf") {
    View y = x;
    y.scale = 1;
    y = net.add_same(node.name, ActivationNode{ActivationKind::kGelu}, y);
    y.scale = 2 * x.scale * e.number;
    return y;
  }
  if (e.what != "norms by their mean" || !x.plain()) {
    throw Unsupported(fmt::format("of {}, in a form that is not known", e.what));
  }
  Expression response = e;
  response.what = "a response";
  return make(std::move(response));
}

}  // namespace

Values import_mul(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const Value &a = in[0], &b = in[1];
  if (const Expression* wide = expression(a, "an expanded value")) {
    const bool fits = view(b).sizes() == wide->constants[0]->integers;
    if (!fits) throw Unsupported("of an expanded value and another of other sizes");
    return import_mul(net, node, {wide->of, b});
  }
  if (std::holds_alternative<OnnxConstant>(a) || expression(b, "an expanded value")) {
    return import_mul(net, node, {b, a});
  }
  if (std::holds_alternative<View>(b) && !std::holds_alternative<View>(a)) {
    return import_mul(net, node, {b, a});
  }
  const Expression* d = expression(a, "a value without its mean");
  if (d && expression(b, d->what.c_str())) {
    return {make({.what = "squares", .of = d->of})};
  }
  const OnnxConstant c = constant(in, 1);
  if (const Expression* e = expression(a, "1 + erf"); e && scalar(b)) {
    Expression scaled = *e;
    scaled.number *= *scalar(b);
    return {make(std::move(scaled))};
  }
  if (const Expression* e = expression(a, "a response"); e && c) {
    const auto scale = net.by_channel(e->of, c);
    if (!scale || e->shift) throw Unsupported("of a response by other than its weight");
    Expression scaled = *e;
    if (!scaled.scale) scaled.scale = Floats(scale->size(), 1);
    for (std::size_t i = 0; i < scale->size(); ++i) (*scaled.scale)[i] *= (*scale)[i];
    return {make(std::move(scaled))};
  }
  if (const auto number = scalar(b)) {
    if (const Expression* e = expression(a, "attention scores")) {
      return {scaled_scores(*e, *number)};
    }
    View x = view(a);
    x.scale *= *number;
    x.shift *= *number;
    return {x};
  }
  if (c) {
    const View x = net.real(a);
    const auto scale = net.by_channel(x, c);
    if (!scale) throw Unsupported("of a constant that is not one number for each channel");
    return {net.affine(node.name, x, *scale, Floats(scale->size(), 0))};
  }
  const View& x = view(a);
  if (const auto* e = std::get_if<std::shared_ptr<const Expression>>(&b)) {
    return {product(net, node, x, **e)};
  }
  return {product(net, node, x, view(b))};
}

Values import_div(OnnxImport& net, const OnnxNode& node, const Values& in) {
  if (const Expression* d = expression(in[0], "a value without its mean")) {
    const Expression* by = expression(in[1], "a standard deviation");
    if (!by || by->of.id != d->of.id) throw Unsupported("of a value without its mean");
    const std::size_t n = to_size(net.channels(d->of));
    LayerNormNode norm{vector_of(Floats(n, 1)), vector_of(Floats(n, 0)), by->number};
    return {net.add_same(node.name, std::move(norm), d->of)};
  }
  if (const Expression* norms = expression(in[0], "norms over positions")) {
    const Expression* by = expression(in[1], "a mean of norms");
    if (!by || by->of.id != norms->of.id) throw Unsupported("of norms by other than their mean");
    return {make({.what = "norms by their mean", .of = by->of, .number = by->number})};
  }
  const OnnxConstant c = constant(in, 1);
  if (!c) throw Unsupported("of two values");
  auto inverse = std::make_shared<io::OnnxTensor>();
  inverse->dims = c->dims;
  for (std::size_t i = 0; i < c->size(); ++i) {
    inverse->floats.push_back(1 / (c->integer ? static_cast<float>(c->integers[i]) : c->floats[i]));
  }
  if (const auto number = scalar(in[1]); number && std::holds_alternative<View>(in[0])) {
    View x = view(in[0]);  // divided as a double: 1 / √2 must be recognised
    x.scale /= *number;
    x.shift /= *number;
    return {x};
  }
  return import_mul(net, node, {in[0], OnnxConstant(inverse)});
}

Values import_pow(OnnxImport& net, const OnnxNode& node, const Values& in) {
  if (scalar(in[1]) != 2.0) throw Unsupported("but for squares");
  if (const Expression* d = expression(in[0], "a value without its mean")) {
    return {make({.what = "squares", .of = d->of})};
  }
  const View x = net.real(in[0]);
  return {net.add_same(node.name, MultiplyNode{}, x, {x.id})};
}

Values import_sqrt(OnnxImport&, const OnnxNode&, const Values& in) {
  const Expression* v = expression(in[0], "a variance");
  if (!v) throw Unsupported("but for a standard deviation");
  return {make({.what = "a standard deviation", .of = v->of, .number = v->number})};
}

namespace {

// Which dimensions of x a reduction is over.
std::vector<bool> reduced_of(const OnnxNode& node, const Values& in, const View& x) {
  const Dims list = list_of(node, "axes", {OnnxConstant(), constant(in, 1)}, 1);
  std::vector<bool> reduced(x.dims.size(), list.empty());
  for (const std::int64_t a : list) reduced[axis_of(a, x.dims.size())] = true;
  return reduced;
}

// Whether that is all positions and nothing else.
bool over_positions(OnnxImport& net, const View& x, const std::vector<bool>& reduced) {
  bool all = net.shape(x).rank() == 4;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    for (const Axis& axis : x.dims[i]) {
      all = all && reduced[i] == (axis.axis > 1);
    }
  }
  return all;
}

// Whether that is the channels and nothing else.
bool over_channels(OnnxImport& net, const View& x, const std::vector<bool>& reduced) {
  bool all = true, any = false;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    const bool channels = is_axis(x, i, 1, net.shape(x)) && !x.dims[i].empty();
    all = all && reduced[i] == channels;
    any = any || channels;
  }
  return all && any;
}

}  // namespace

Values import_mean(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const bool keep = integer_of(node, "keepdims", 1) != 0;
  for (const auto& [what, becomes] :
       {std::pair("squares", "a variance"), std::pair("norms over positions", "a mean of norms")}) {
    const Expression* e = expression(in[0], what);
    if (!e) continue;
    if (!keep || !over_channels(net, e->of, reduced_of(node, in, e->of))) {
      throw Unsupported(fmt::format("of {} over other than the channels", what));
    }
    return {make({.what = becomes, .of = e->of})};
  }
  const View x = net.real(in[0]);
  const std::vector<bool> reduced = reduced_of(node, in, x);
  if (keep && over_channels(net, x, reduced)) {
    return {make({.what = "a mean over channels", .of = x})};
  }
  if (!over_positions(net, x, reduced)) throw Unsupported("over other than all positions");
  View y{net.add(node.name, GlobalAveragePoolNode{}, {x.id}), {}};
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    if (!reduced[i]) {
      y.dims.push_back(x.dims[i]);
    } else if (keep) {
      y.dims.emplace_back();
    }
  }
  return {y};
}

Values import_norm(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const View x = net.real(in[0]);
  if (!over_positions(net, x, reduced_of(node, in, x)) || !integer_of(node, "keepdims", 1)) {
    throw Unsupported("over other than all positions");
  }
  return {make({.what = "norms over positions", .of = x})};
}

}  // namespace sepconv::models
