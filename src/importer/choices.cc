// Comparisons, and choices by what they say or by constants.

#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

// What chooses between a softplus and, where that is the same, its argument.
Values import_greater(GraphBuilder& net, const OnnxNode&, const Values& in) {
  const auto than = scalar(in[1]);
  if (!than) throw Unsupported("than other than a number");
  return {waiting(Comparison{net.real(in[0]), *than})};
}

namespace {

// What constants choose of two values.
View chosen(GraphBuilder& net, const OnnxNode& node, const OnnxConstant& by, const View& a,
            const View& b) {
  const Dims sizes = broadcast(broadcast(a.sizes(), b.sizes()), by->dims);
  OnnxTensor mask = *by;
  if (mask.integer) mask.floats.assign(mask.integers.begin(), mask.integers.end());
  mask.integer = false;
  const OnnxConstant floats = made(std::move(mask));
  View like = net.matrices(net.expanded(a, sizes), sizes.size() - 1);
  Constant map = net.map_for(like, floats);
  if (!map) {  // by what differs from image to image
    like = net.matrices(net.expanded(a, sizes), sizes.size() - 1, false);
    map = net.map_for(like, floats);
  }
  if (!map) throw Unsupported("by a constant of another shape");
  const View other = net.laid_out_as(net.expanded(b, sizes), like);
  return net.add_same(node.name, ChooseNode{std::move(map)}, like, {other.id});
}

}  // namespace

// Where no mask hides every key from a query all weights are numbers.
Values import_is_nan(GraphBuilder&, const OnnxNode&, const Values& in) {
  const auto* weights = expression<AttentionWeights>(in[0]);
  if (!weights || hides_all_keys(weights->scores)) throw Unsupported("but for attention's weights");
  return {waiting(Never{})};
}

Values import_where(GraphBuilder& net, const OnnxNode& where, const Values& in) {
  if (expression<Never>(in[0])) return {in[2]};
  if (const OnnxConstant by = constant(in, 0)) {
    return {chosen(net, where, by, view(in[1]), view(in[2]))};
  }
  constexpr double kLinear = 18;  // from there on log(1 + exp x) rounds to x
  const auto* greater = expression<Comparison>(in[0]);
  const View x = net.real(in[1]), otherwise = view(in[2]);
  const Node& node = net.graph.nodes[otherwise.id];
  const auto* activation = std::get_if<ActivationNode>(&node.op);
  const bool softplus = activation && activation->activation == ActivationKind::kSoftplus &&
                        node.inputs[0] == x.id && otherwise.plain() && otherwise.dims == x.dims;
  if (!greater || !softplus || !greater->of.same_elements(x) || greater->than < kLinear) {
    throw Unsupported("but for a softplus");
  }
  return {otherwise};
}

}  // namespace sepconv::importer
