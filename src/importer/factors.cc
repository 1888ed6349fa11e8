// Products and quotients of elements, and what exporters take apart into them.

#include <optional>

#include "importer/constants.h"
#include "importer/handlers.h"
#include "importer/operands.h"

namespace sepconv::importer {

namespace {

// What a value times its gate is: an activation, and a factor that is left.
std::optional<std::pair<ActivationKind, double>> gated_by(GraphBuilder& net, const View& value,
                                                          const View& gate) {
  const Node& node = net.graph.nodes[gate.id];
  const auto* activation = std::get_if<ActivationNode>(&node.op);
  if (!activation || gate.shift != 0 || gate.dims != value.dims) return std::nullopt;
  const ValueId of = node.inputs[0];
  const View above = value.plus(3);  // whose relu6 is six times the gate of a hard-swish
  switch (activation->activation.kind) {
    case ActivationKind::kSigmoid:
      if (net.is_real(of, value)) return std::pair(ActivationKind::kSilu, 1.0);
      break;
    case ActivationKind::kHardSigmoid:
      if (net.is_real(of, value)) return std::pair(ActivationKind::kHardSwish, 1.0);
      break;
    case ActivationKind::kTanh: {
      const Node& before = net.graph.nodes[of];
      const auto* inner = std::get_if<ActivationNode>(&before.op);
      const bool mish = inner && inner->activation == ActivationKind::kSoftplus;
      if (mish && net.is_real(before.inputs[0], value))
        return std::pair(ActivationKind::kMish, 1.0);
      break;
    }
    case ActivationKind::kRelu6:
      if (net.is_real(of, above)) return std::pair(ActivationKind::kHardSwish, 6.0);
      break;
    default:
      break;
  }
  return std::nullopt;
}

// A value by the root of its mean square.
View rms_norm(GraphBuilder& net, const std::string& name, const RootMeanSquare& e) {
  const std::size_t n = to_size(net.channels(e.of));
  LayerNormNode norm{vector_of(Floats(n, 1)), vector_of(Floats(n, 0)), e.epsilon, false};
  return net.add_same(name, std::move(norm), e.of);
}

// Two values: a SiLU or hard-swish with its gate, a factor for each channel, or one for each
// element.
View product(GraphBuilder& net, const OnnxNode& node, const View& x, const View& y) {
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
  const auto turned = [&net](const View& v) {
    const View r = net.real(v);
    return shuffled_groups(r, net.shape(r)) > 1 ? net.image(r) : r;
  };
  const View a = turned(x), b = turned(y);
  for (const auto& [of, by] : {std::pair(a, b), std::pair(b, a)}) {
    const Shape s = net.shape(of), f = net.shape(by);
    const bool images = s.rank() == 4 && of.dims.size() == 4 && by.dims.size() == 4 &&
                        is_image(of, s) && is_image(by, f) && f[0] == s[0];
    if (!images) continue;
    if (f[1] == s[1] && (f.rank() == 2 || f[2] * f[3] == 1)) {
      return net.add_same(node.name, ScaleNode{}, of, {net.as_vector(by, node.name)});
    }
    if (f == Shape({s[0], 1, s[2], s[3]})) {
      return net.add_same(node.name, ScalePixelsNode{}, of, {by.id});
    }
  }
  for (const auto& [of, by] : {std::pair(a, b), std::pair(b, a)}) {
    if (const auto factors = net.by_channels_of(of, by)) {
      return net.add_same(node.name, ScaleNode{}, of, {*factors});
    }
  }
  const auto [like, other] = alike(net, a, b);
  return net.add_same(node.name, MultiplyNode{}, like, {other.id});
}

// A value and what stands for part of an activation or a norm; null if that is nothing.
std::optional<Value> product_with(GraphBuilder& net, const OnnxNode& node, const View& x,
                                  const Value& value) {
  const auto* erf = expression<OnePlusErf>(value);
  if (erf && erf->of.same_elements(x) && x.shift == 0) {
    View y = x;
    y.scale = 1;
    y = net.add_same(node.name, ActivationNode{ActivationKind::kGelu}, y);
    y.scale = 2 * x.scale * erf->factor;
    return y;
  }
  const auto* root = expression<RootMeanSquare>(value);
  if (root && root->inverse && root->of.same_elements(x) && x.plain()) {
    return rms_norm(net, node.name, *root);
  }
  const auto* norms = expression<NormsByMean>(value);
  if (norms && norms->of.same_elements(x) && x.plain()) {
    return waiting(Response{norms->of, norms->epsilon});
  }
  return std::nullopt;
}

// What a factor makes of an expression; null if nothing.
std::optional<Value> product_with(GraphBuilder& net, const Value& a, const OnnxConstant& c) {
  const auto number = scalar(c);
  if (const auto* e = expression<OnePlusErf>(a); e && number) {
    return waiting(OnePlusErf{e->of, e->factor * *number});
  }
  if (const auto* e = expression<AttentionScores>(a); e && number) {
    return scaled_scores(*e, *number);
  }
  if (const auto* e = expression<Response>(a)) {
    const auto scale = net.by_channel(e->of, c);
    if (!scale || e->shift) throw Unsupported("of a response by other than its weight");
    Response scaled = *e;
    if (!scaled.scale) scaled.scale = Floats(scale->size(), 1);
    for (std::size_t i = 0; i < scale->size(); ++i) (*scaled.scale)[i] *= (*scale)[i];
    return waiting(std::move(scaled));
  }
  return std::nullopt;
}

// A value by its norms.
View normalized(GraphBuilder& net, const std::string& name, const Norms& norms) {
  View x = norms.of;
  bool channels = net.shape(x).rank() >= 2;
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    channels = channels && norms.over[i] == (is_axis(x, i, 1, net.shape(x)) && !x.dims[i].empty());
  }
  if (!channels) x = net.matrices(x, norms.over);
  return net.add_same(name, NormalizeNode{norms.least}, x);
}

}  // namespace

Values import_mul(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const Value &a = in[0], &b = in[1];
  if (const auto* wide = expression<Expanded>(a)) {
    const bool fits = view(b).sizes() == wide->sizes;
    if (!fits) throw Unsupported("of an expanded value and another of other sizes");
    return import_mul(net, node, {wide->of, b});
  }
  if (std::holds_alternative<OnnxConstant>(a) || expression<Expanded>(b)) {
    return import_mul(net, node, {b, a});
  }
  if (std::holds_alternative<View>(b) && !std::holds_alternative<View>(a)) {
    return import_mul(net, node, {b, a});
  }
  const auto *d = expression<Centred>(a), *same = expression<Centred>(b);
  if (d && same && d->of.same_elements(same->of)) return {waiting(CentredSquares{d->of})};
  if (const OnnxConstant c = constant(in, 1)) {
    if (const auto product = product_with(net, a, c)) return {*product};
    if (const auto number = scalar(c)) return {as_many(view(a), c).times(*number)};
    const View x = as_many(net.real(a), c);
    if (const auto scale = net.by_channel(x, c)) {
      return {net.affine(node.name, x, *scale, Floats(scale->size(), 0))};
    }
    const auto [like, map] = mapped(net, x, c);
    return {net.add_same(node.name, MultiplyMapNode{map}, like)};
  }
  if (const auto product = product_with(net, node, view(a), b)) return {*product};
  if (view(a).same_elements(view(b)) && view(a).plain() && view(b).plain()) {
    return {waiting(Squares{view(a)})};
  }
  return {product(net, node, view(a), view(b))};
}

Values import_div(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (const auto* d = expression<Centred>(in[0])) {
    const auto* by = expression<Deviation>(in[1]);
    if (!by || by->of.id != d->of.id) throw Unsupported("of a value without its mean");
    const std::size_t n = to_size(net.channels(d->of));
    LayerNormNode norm{vector_of(Floats(n, 1)), vector_of(Floats(n, 0)), by->epsilon};
    return {net.add_same(node.name, std::move(norm), d->of)};
  }
  if (const auto* norms = expression<Norms>(in[0])) {
    const auto* by = expression<MeanOfNorms>(in[1]);
    if (!by || by->of.id != norms->of.id) throw Unsupported("of norms by other than their mean");
    return {waiting(NormsByMean{by->of, by->epsilon})};
  }
  if (const auto* norms = expression<Norms>(in[1])) {
    if (!norms->of.same_elements(net.real(in[0]))) throw Unsupported("of norms and another value");
    return {normalized(net, node.name, *norms)};
  }
  if (const auto* root = expression<RootMeanSquare>(in[1]); root && !root->inverse) {
    if (scalar(in[0]) == 1.0) return {waiting(RootMeanSquare{root->of, root->epsilon, true})};
    const View& x = view(in[0]);
    if (!root->of.same_elements(x) || !x.plain()) throw Unsupported("of a root and another value");
    return {rms_norm(net, node.name, *root)};
  }
  const OnnxConstant c = constant(in, 1);
  if (constant(in, 0)) {
    const View by = net.real(in[1]);
    const View inverse = net.add_same(node.name, FunctionNode{Function::kReciprocal}, by);
    return import_mul(net, node, {inverse, in[0]});
  }
  if (!c) {
    const auto [x, y] = alike(net, view(in[0]), view(in[1]));
    return {net.add_same(node.name, DivideNode{}, x, {y.id})};
  }
  auto inverse = std::make_shared<OnnxTensor>();
  inverse->dims = c->dims;
  for (std::size_t i = 0; i < c->size(); ++i) {
    inverse->floats.push_back(1 / (c->integer ? static_cast<float>(c->integers[i]) : c->floats[i]));
  }
  if (const auto number = scalar(in[1]); number && std::holds_alternative<View>(in[0])) {
    return {as_many(view(in[0]), c).times(1 / *number)};  // a double: 1 / √2 must be recognised
  }
  return import_mul(net, node, {in[0], OnnxConstant(inverse)});
}

}  // namespace sepconv::importer
