// Attention as exporters take it apart, and the tokens around it.

#include <cmath>

#include "base/sizes.h"
#include "models/onnx_import.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;

namespace {

// Whether a view is [N, heads, T, depth] of one of the three thirds of the channels.
bool is_third(OnnxImport& net, const View& v) {
  if (v.selected < 0 || v.dims.size() != 4 || net.shape(v).rank() != 4) return false;
  const auto is_part = [&](std::size_t i, int part) {
    return v.dims[i].size() == 1 && v.dims[i][0].axis == 1 && v.dims[i][0].part == part;
  };
  return is_axis(v, 0, 0, net.shape(v)) && is_part(1, 1) && is_pixels(v, 2, net.shape(v)) &&
         is_part(3, 2) && 3 * v.dims[1][0].size * v.dims[3][0].size == net.channels(v);
}

}  // namespace

Value attention_scores(const View& q, const View& k) {
  Expression e{.what = "attention scores", .of = q, .number = q.scale * k.scale};
  View key = k;
  if (q.dims.size() != 4 || k.dims.size() != 4) throw Unsupported("of two values");
  if (q.shift != 0 || k.shift != 0 || q.id != k.id) throw Unsupported("of two values");
  std::swap(key.dims.back(), key.dims[key.dims.size() - 2]);
  key.selected = q.selected;
  key.scale = q.scale;
  if (key.dims != q.dims || q.selected != 0 || k.selected != 1) {
    throw Unsupported("of two values that are no queries and keys");
  }
  return make(std::move(e));
}

View attend(OnnxImport& net, const OnnxNode& node, const Expression& weights, const View& v) {
  const View& q = weights.of;
  const bool thirds = is_third(net, q) && is_third(net, v) && q.selected == 0 && v.selected == 2;
  if (!thirds || v.id != q.id || v.scale != 1 || v.shift != 0) {
    throw Unsupported("of attention that is not over queries, keys and values of one layer");
  }
  const std::int64_t heads = q.dims[1][0].size, depth = q.dims[3][0].size;
  if (!nearly(weights.number, 1 / std::sqrt(static_cast<double>(depth)))) {
    throw Unsupported("of attention with a scale of its own");
  }
  View y{net.add(node.name, AttentionNode{heads}, {q.id}), {}};
  y.dims = {q.dims[0], {{1, 0, heads}}, q.dims[2], {{1, 1, depth}}};
  return y;
}

View select_factor(const View& x, std::size_t axis, std::int64_t index, bool drop) {
  const std::vector<Axis>& axes = x.dims[axis];
  if (axes.size() != 1 || axes[0].axis != 1 || axes[0].part != 0 || x.selected >= 0) {
    throw Unsupported("of other than queries, keys and values");
  }
  View y = x;
  y.selected = static_cast<int>(axis_of(index, to_size(axes[0].size)));
  y.dims[axis].clear();
  if (drop) y.dims.erase(y.dims.begin() + static_cast<std::ptrdiff_t>(axis));
  return y;
}

namespace {

View element(OnnxImport& net, const OnnxNode& node, const View& x, std::size_t axis,
             std::int64_t index) {
  const bool token = x.dims.size() == 3 && axis == 1 && is_axis(x, 1, 2, net.shape(x));
  if (token && index == 0 && is_axis(x, 2, 1, net.shape(x))) {
    return net.add_view(node.name, FirstTokenNode{}, {net.real(x).id});
  }
  return select_factor(x, axis, index, true);
}

}  // namespace

Values import_gather(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const View& x = view(in[0]);
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), x.dims.size());
  const OnnxConstant index = constant(in, 1);
  if (!index || !index->integer) throw Unsupported("by other than constants");
  if (index->integers.size() == 1 && index->dims.empty()) {
    return {element(net, node, x, axis, index->integers[0])};
  }
  // All elements in their order: another shape for that dimension.
  Dims sizes = x.sizes();
  bool in_order = index->integers.size() == to_size(sizes[axis]);
  for (std::size_t i = 0; i < index->integers.size(); ++i) {
    in_order = in_order && index->integers[i] == static_cast<std::int64_t>(i);
  }
  if (!in_order) throw Unsupported("of more than one element");
  sizes.erase(sizes.begin() + static_cast<std::ptrdiff_t>(axis));
  sizes.insert(sizes.begin() + static_cast<std::ptrdiff_t>(axis), index->dims.begin(),
               index->dims.end());
  return {reshaped(x, sizes)};
}

View class_tokens(OnnxImport& net, const OnnxNode& node, const Expression& e,
                  const OnnxConstant& positions) {
  const View& x = e.of;
  const Shape& s = net.shape(x);
  const bool tokens = x.dims.size() == 3 && is_axis(x, 0, 0, s) && is_axis(x, 2, 1, s);
  const View pixels = reshaped(whole_view(x.id, s), {s[0], s[1], s[2] * s[3]});
  const std::int64_t grid = s[2], channel = s[1];
  if (!tokens || x.dims[1] != pixels.dims[2] || s[2] != s[3]) {
    throw Unsupported("of other than the pixels of a square image");
  }
  const OnnxConstant& token = e.constants[0];
  if (!positions || positions->floats.size() != to_size((grid * grid + 1) * channel) || !token ||
      token->floats.size() < to_size(channel)) {
    throw Unsupported("of a class token with other positions");
  }
  ClassTokensNode n;
  n.token = vector_of({token->floats.begin(), token->floats.begin() + channel});
  n.positions = tensor_of({grid * grid + 1, channel}, positions->floats);
  n.grid = grid;
  View y{net.add(node.name, std::move(n), {x.id}), {}};
  const View all = whole_view(y.id, net.shape(y));
  y.dims = {all.dims[0], all.dims[2], all.dims[1]};
  return y;
}

}  // namespace sepconv::models
