// Sums and differences, and what exporters take apart into them.

#include <optional>

#include "importer/constants.h"
#include "importer/handlers.h"
#include "importer/operands.h"

namespace sepconv::importer {

namespace {

// What a constant that is added to an expression makes of it; null if nothing.
std::optional<Value> sum_with(GraphBuilder& net, const OnnxNode& node, const Value& a,
                              const OnnxConstant& c) {
  const auto number = scalar(c);
  if (const auto* e = expression<Variance>(a); e && number) {
    return waiting(Variance{e->of, e->epsilon + *number});
  }
  if (const auto* e = expression<MeanSquare>(a); e && number) {
    return waiting(MeanSquare{e->of, e->epsilon + *number});
  }
  if (const auto* e = expression<MeanOfNorms>(a); e && number) {
    return waiting(MeanOfNorms{e->of, e->epsilon + *number});
  }
  if (const auto* e = expression<Erf>(a); e && number == 1.0) return waiting(OnePlusErf{e->of});
  if (const auto* e = expression<Response>(a); e && net.by_channel(e->of, c)) {
    Response sum = *e;
    sum.shift = net.by_channel(e->of, c);
    return waiting(std::move(sum));
  }
  if (const auto* e = expression<AttentionScores>(a)) return biased_scores(net, *e, c);
  if (const auto* e = expression<ClassTokens>(a)) return class_tokens(net, node.name, *e, c);
  return std::nullopt;
}

// x + response(x): a global response norm, whose scale is 1 + weight · ….
View response_norm(GraphBuilder& net, const std::string& name, const View& x, const Response& e) {
  if (!e.of.same_elements(x) || !x.plain()) {
    throw Unsupported("of a response and another value");
  }
  const std::size_t n = to_size(net.channels(x));
  const ValueId factors =
      net.add(name + ".factors",
              ResponseScaleNode{vector_of(e.scale.value_or(Floats(n, 1))), e.epsilon}, {x.id});
  const View y = net.add_same(name, ScaleNode{}, x, {factors});
  return e.shift ? net.affine(name, y, Floats(n, 1), *e.shift) : y;
}

}  // namespace

Values import_add(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const Value &a = in[0], &b = in[1];
  if (std::holds_alternative<OnnxConstant>(a)) return import_add(net, node, {b, a});
  if (expression<Response>(a) && std::holds_alternative<View>(b)) {
    return import_add(net, node, {b, a});
  }
  if (const auto* e = expression<Response>(b)) {
    return {response_norm(net, node.name, view(a), *e)};
  }
  if (const OnnxConstant c = constant(in, 1)) {
    if (const auto sum = sum_with(net, node, a, c)) return {*sum};
    if (const auto number = scalar(c)) return {as_many(view(a), c).plus(*number)};
    const View x = as_many(net.real(a), c);
    if (const auto shift = net.by_channel(x, c)) {
      return {net.affine(node.name, x, Floats(shift->size(), 1), *shift)};
    }
    const auto [like, map] = mapped(net, x, c);
    return {net.add_same(node.name, AddMapNode{map}, like)};
  }
  const auto [x, y] = alike(net, view(a), view(b));
  return {net.add_same(node.name, AddNode{}, x, {y.id})};
}

Values import_sum(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  Values sum{in[0]};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    sum = import_add(net, node, {net.settled(sum[0]), in[i]});
  }
  return sum;
}

Values import_negative(GraphBuilder&, const OnnxNode&, const Values& in) {
  return {view(in[0]).times(-1)};
}

Values import_sub(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (const auto* mean = expression<ChannelMean>(in[1])) {
    if (std::holds_alternative<View>(in[0]) && mean->of.same_elements(view(in[0]))) {
      return {waiting(Centred{mean->of})};
    }
  }
  if (const OnnxConstant c = constant(in, 1)) {
    auto negative = std::make_shared<OnnxTensor>(*c);
    for (float& v : negative->floats) v = -v;
    for (std::int64_t& v : negative->integers) v = -v;
    return import_add(net, node, {in[0], OnnxConstant(negative)});
  }
  if (const auto number = scalar(in[0])) {
    return {as_many(view(in[1]), constant(in, 0)).times(-1).plus(*number)};
  }
  return import_add(net, node, {in[0], view(in[1]).times(-1)});
}

}  // namespace sepconv::importer
