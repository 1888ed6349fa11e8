// Powers and roots, and what exporters take apart into them.

#include <cmath>

#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

Values import_pow(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const double power = scalar(in[1]).value_or(0);
  if (power == 1.0) return {in[0]};
  if (power == 2.0) {
    if (const auto* d = expression<Centred>(in[0])) return {waiting(CentredSquares{d->of})};
    return {waiting(Squares{net.real(in[0])})};
  }
  if (power == 3.0) {
    const View x = net.real(in[0]);
    const View squares = net.add_same(node.name + ".squares", MultiplyNode{}, x, {x.id});
    return {net.add_same(node.name, MultiplyNode{}, squares, {x.id})};
  }
  if (std::abs(power) != 0.5 && power != -1.0)
    throw Unsupported("but for squares, cubes and roots");
  Value root = in[0];
  if (power != -1.0) root = import_sqrt(net, node_of("Sqrt", node.name), {root}).front();
  if (power > 0) return {root};
  return import_function(net, node_of("Reciprocal", node.name), {root});
}

Values import_sqrt(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (const auto* e = expression<MeanSquare>(in[0])) {
    return {waiting(RootMeanSquare{e->of, e->epsilon})};
  }
  const auto* v = expression<Variance>(in[0]);
  if (!v) return import_function(net, node, in);
  return {waiting(Deviation{v->of, v->epsilon})};
}

}  // namespace sepconv::importer
