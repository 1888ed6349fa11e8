// Values one after the other: along the channels, convolutions of all parts of a value's channels
// among them, along the positions, and tokens behind a class token.

#include <algorithm>

#include "base/sizes.h"
#include "models/onnx_import.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;

namespace {

using Parts = std::vector<const Expression*>;

Constant join_bias(const Parts& parts) {
  Floats all;
  for (const Expression* part : parts) {
    const OnnxConstant& b = part->constants[1];
    const std::size_t n = to_size(part->constants[0]->dims[0]);
    if (b && b->floats.size() != n) throw Unsupported("with a bias of another size");
    all.insert(all.end(), n, 0.0F);
    if (b)
      std::copy(b->floats.begin(), b->floats.end(), all.end() - static_cast<std::ptrdiff_t>(n));
  }
  return vector_of(all);
}

View join_depthwise(OnnxImport& net, const OnnxNode& node, const Parts& parts) {
  MixedDepthwiseNode n;
  n.stride = pair_of(*parts[0]->node, "strides").height;
  const ValueId x = parts[0]->of.id;
  bool centred = true, same = true;
  for (const Expression* part : parts) {
    const OnnxConstant& w = part->constants[0];
    const std::int64_t k = w->dims[2];
    if (w->dims[3] != k || pair_of(*part->node, "strides") != Size2d(n.stride) ||
        pair_of(*part->node, "dilations") != Size2d(1)) {
      throw Unsupported("of convolutions of different kinds");
    }
    n.weights.push_back(tensor_of({w->dims[0], 1, k, k}, w->floats));
    const Padding pad = net.padding_of(*part->node, part->of, k, n.stride, 1);
    centred = centred && pad == Padding(k / 2);
    same = same && pad == Padding::same({net.shapes[x][2], net.shapes[x][3]}, k, n.stride);
  }
  if (!centred && !same) throw Unsupported("of convolutions with other padding");
  n.same_padding = !centred;
  n.bias = join_bias(parts);
  return net.add_view(node.name, std::move(n), {x});
}

// As one pointwise convolution, with zeros between parts that do not mix.
View join_pointwise(OnnxImport& net, const OnnxNode& node, const Parts& parts, std::int64_t out) {
  const ValueId x = parts[0]->of.id;
  const std::size_t all = to_size(net.shapes[x][1]);
  bool equal = true;
  for (const Expression* part : parts) {
    const OnnxConstant& w = part->constants[0];
    const OnnxNode& conv = *part->node;
    if (w->dims[2] != 1 || w->dims[3] != 1 || integer_of(conv, "group", 1) != 1 ||
        pair_of(conv, "strides") != Size2d(1) ||
        net.padding_of(conv, part->of, 1, 1, 1) != Padding(0)) {
      throw Unsupported("of convolutions that are neither depthwise nor pointwise");
    }
    equal = equal && w->dims == parts[0]->constants[0]->dims;
  }
  Floats weights;
  std::size_t first = 0;
  for (const Expression* part : parts) {
    const OnnxConstant& w = part->constants[0];
    const std::size_t k = to_size(w->dims[1]);
    for (std::size_t o = 0; o < to_size(w->dims[0]); ++o) {
      if (!equal) weights.insert(weights.end(), first, 0.0F);
      const auto row = w->floats.begin() + static_cast<std::ptrdiff_t>(o * k);
      weights.insert(weights.end(), row, row + static_cast<std::ptrdiff_t>(k));
      if (!equal) weights.insert(weights.end(), all - first - k, 0.0F);
    }
    first += k;
  }
  Conv2dNode n;
  n.groups = equal ? static_cast<std::int64_t>(parts.size()) : 1;
  n.weight = tensor_of({out, static_cast<std::int64_t>(all) / n.groups, 1, 1}, weights);
  n.bias = join_bias(parts);
  return net.add_view(node.name, std::move(n), {x});
}

// Convolutions of all parts of a value's channels, side by side again.
View join(OnnxImport& net, const OnnxNode& node, const Values& in) {
  Parts parts;
  std::int64_t channels = 0, out = 0;
  bool depthwise = true;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const Expression* e = expression(in[i], "a convolution of a part of the channels");
    if (!e || (i > 0 && e->of.id != parts[0]->of.id) || e->first != channels) {
      throw Unsupported("of parts that are not all of one value");
    }
    const OnnxConstant& w = e->constants[0];
    if (!w || w->integer || w->dims.size() != 4) throw Unsupported("without constant weights");
    const std::int64_t group = integer_of(*e->node, "group", 1);
    depthwise = depthwise && group == e->count && w->dims[0] == group && w->dims[1] == 1;
    if (!depthwise && w->dims[1] * group != e->count) throw Unsupported("of other weights");
    channels += e->count;
    out += w->dims[0];
    parts.push_back(e);
  }
  if (channels != net.channels(parts[0]->of)) throw Unsupported("of some parts of a value");
  return depthwise ? join_depthwise(net, node, parts) : join_pointwise(net, node, parts, out);
}

// What a concatenation of positions needs of a part: [N, positions, channels] in any order, where
// positions are the pixels, and factors of the channels besides, and channels those that are left.
struct PositionsOf {
  std::vector<Axis> tokens;
  std::int64_t channels = 1;
  std::size_t dim = 0;  ///< of the channels
};

std::optional<PositionsOf> positions_of(const OnnxImport& net, const View& x, std::size_t axis) {
  PositionsOf p{x.dims[axis]};
  std::int64_t count = 1;
  for (const Axis& a : p.tokens) count *= a.axis == 0 ? 0 : a.size;
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    const bool images = !x.dims[i].empty() && x.dims[i][0].axis == 0;
    if (i == axis || x.dims[i].empty() || (images && is_axis(x, i, 0, net.shape(x)))) continue;
    if (p.channels != 1 || x.dims[i].size() != 1 || x.dims[i][0].axis != 1 ||
        x.dims[i][0].step != 1) {
      return std::nullopt;
    }
    p.channels = x.dims[i][0].size;
    p.dim = i;
  }
  const bool all = count * p.channels * net.shape(x)[0] == net.shape(x).elements();
  return all && p.channels > 1 ? std::optional(std::move(p)) : std::nullopt;
}

// Along the positions, as detectors join the results of their maps.
View concat_positions(OnnxImport& net, const OnnxNode& node, const Values& in) {
  TokensNode n;
  std::vector<ValueId> parts;
  View all;
  std::size_t axis = 0, channels_dim = 0;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const View x = net.real(net.settled(in[i]));
    axis = axis_of(integer_of(node, "axis", 0), x.dims.size());
    const auto p = positions_of(net, x, axis);
    if (!p) throw Unsupported("of other than the channels or all positions");
    if (i == 0) {
      n.channels = p->channels;
      channels_dim = p->dim;
      all.dims = x.dims;
    }
    if (p->channels != n.channels || p->dim != channels_dim || x.dims.size() != all.dims.size()) {
      throw Unsupported("of values of different shapes");
    }
    n.tokens.push_back(p->tokens);
    parts.push_back(x.id);
  }
  all.id = net.add(node.name, std::move(n), std::move(parts));
  all.dims[axis].clear();
  if (net.shape(all)[2] > 1) all.dims[axis].push_back({2, net.shape(all)[2]});
  all.dims[channels_dim] = {{1, net.channels(all)}};
  return all;
}

// Along the channels, whatever the order of the dimensions.
View concat(OnnxImport& net, const OnnxNode& node, const Values& in) {
  std::vector<ValueId> parts;
  std::size_t axis = 0;
  View all;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const Value part = net.settled(in[i]);
    View x =
        shuffled_groups(view(part), net.shape(view(part))) > 1 ? net.image(part) : net.real(part);
    axis = axis_of(integer_of(node, "axis", 0), x.dims.size());
    if (net.shape(x).rank() != 4 || !is_axis(x, axis, 1, net.shape(x))) {
      throw Unsupported("of other than the channels");
    }
    parts.push_back(x.id);
    x.dims[axis].clear();
    if (i == 0) all = x;
    if (x.dims != all.dims) throw Unsupported("of values of different shapes");
  }
  all.id = net.add(node.name, ConcatNode{}, std::move(parts));
  if (net.channels(all) > 1) all.dims[axis].push_back({1, net.channels(all)});
  return all;
}

// Along a dimension that none of them has: all channels one after the other.
std::optional<View> concat_new(OnnxImport& net, const OnnxNode& node, const Values& in) {
  std::vector<ValueId> parts;
  View all;
  std::size_t axis = 0;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const View x = net.real(net.settled(in[i]));
    axis = axis_of(integer_of(node, "axis", 0), x.dims.size());
    if (i == 0) all = x;
    const bool alike = x.dims == all.dims && net.shape(x) == net.shape(all);
    if (net.shape(x).rank() != 4 || !x.dims[axis].empty() || !alike) return std::nullopt;
    parts.push_back(x.id);
  }
  const std::int64_t each = net.channels(all);
  all.dims[axis] = {{1, static_cast<std::int64_t>(parts.size()), each}};
  all.id = net.add(node.name, ConcatNode{}, std::move(parts));
  return all;
}

// Along whatever dimension, as the channels of copies.
View concat_copies(OnnxImport& net, const OnnxNode& node, const Values& in) {
  std::vector<ValueId> parts;
  View all;
  std::size_t axis = 0;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const Value part = net.settled(in[i]);
    axis = axis_of(integer_of(node, "axis", 0), view(part).dims.size());
    View x = net.matrices(part, axis);
    parts.push_back(x.id);
    x.dims[axis].clear();
    if (i == 0) all = x;
    if (x.dims != all.dims) throw Unsupported("of values of different shapes");
  }
  all.id = net.add(node.name, ConcatNode{}, std::move(parts));
  all.dims[axis] = {{1, net.channels(all)}};
  return all;
}

}  // namespace

Values import_concat(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const auto is_part = [](const Value& v) {
    return expression(v, "a convolution of a part of the channels") != nullptr;
  };
  const auto end = in.begin() + static_cast<std::ptrdiff_t>(node.inputs.size());
  if (std::all_of(in.begin(), end, is_part)) return {join(net, node, in)};
  if (constant(in, 0) && node.inputs.size() == 2) {
    Expression e{.what = "tokens behind a class token", .of = net.real(in[1])};
    e.constants = {constant(in, 0)};
    return {make(std::move(e))};
  }
  const View first = net.real(net.settled(in[0]));
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), first.dims.size());
  const bool positions =
      !is_axis(first, axis, 1, net.shape(first)) && shuffled_groups(first, net.shape(first)) == 1;
  try {
    return {positions ? concat_positions(net, node, in) : concat(net, node, in)};
  } catch (const Unsupported&) {
    if (const auto all = concat_new(net, node, in)) return {*all};
    return {concat_copies(net, node, in)};
  }
}

}  // namespace sepconv::models
