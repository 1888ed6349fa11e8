// Values one after the other: along the channels, convolutions of all parts of a value's channels
// among them, along the positions, and tokens behind a class token.

#include <algorithm>

#include "base/sizes.h"
#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

using Parts = std::vector<const ConvolvedChannels*>;

Constant join_bias(const Parts& parts) {
  Floats all;
  for (const ConvolvedChannels* part : parts) {
    const OnnxConstant& b = part->bias;
    const std::size_t n = to_size(part->weight->dims[0]);
    if (b && b->floats.size() != n) throw Unsupported("with a bias of another size");
    all.insert(all.end(), n, 0.0F);
    if (b)
      std::copy(b->floats.begin(), b->floats.end(), all.end() - static_cast<std::ptrdiff_t>(n));
  }
  return vector_of(all);
}

View join_depthwise(GraphBuilder& net, const OnnxNode& node, const Parts& parts) {
  MixedDepthwiseNode n;
  n.stride = pair_of(*parts[0]->node, "strides").height;
  const ValueId x = parts[0]->channels.of.id;
  bool centred = true, same = true;
  for (const ConvolvedChannels* part : parts) {
    const OnnxConstant& w = part->weight;
    const std::int64_t k = w->dims[2];
    if (w->dims[3] != k || pair_of(*part->node, "strides") != Size2d(n.stride) ||
        pair_of(*part->node, "dilations") != Size2d(1)) {
      throw Unsupported("of convolutions of different kinds");
    }
    n.weights.push_back(tensor_of({w->dims[0], 1, k, k}, w->floats));
    const Padding pad = net.padding_of(*part->node, part->channels.of, k, n.stride, 1);
    centred = centred && pad == Padding(k / 2);
    same = same && pad == Padding::same({net.shapes[x][2], net.shapes[x][3]}, k, n.stride);
  }
  if (!centred && !same) throw Unsupported("of convolutions with other padding");
  n.same_padding = !centred;
  n.bias = join_bias(parts);
  return net.add_view(node.name, std::move(n), {x});
}

// As one pointwise convolution, with zeros between parts that do not mix.
View join_pointwise(GraphBuilder& net, const OnnxNode& node, const Parts& parts, std::int64_t out) {
  const ValueId x = parts[0]->channels.of.id;
  const std::size_t all = to_size(net.shapes[x][1]);
  bool equal = true;
  for (const ConvolvedChannels* part : parts) {
    const OnnxConstant& w = part->weight;
    const OnnxNode& conv = *part->node;
    if (w->dims[2] != 1 || w->dims[3] != 1 || integer_of(conv, "group", 1) != 1 ||
        pair_of(conv, "strides") != Size2d(1) ||
        net.padding_of(conv, part->channels.of, 1, 1, 1) != Padding(0)) {
      throw Unsupported("of convolutions that are neither depthwise nor pointwise");
    }
    equal = equal && w->dims == parts[0]->weight->dims;
  }
  Floats weights;
  std::size_t first = 0;
  for (const ConvolvedChannels* part : parts) {
    const OnnxConstant& w = part->weight;
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
View join(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  Parts parts;
  std::int64_t channels = 0, out = 0;
  bool depthwise = true;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const auto* e = expression<ConvolvedChannels>(in[i]);
    if (!e || (i > 0 && e->channels.of.id != parts[0]->channels.of.id) ||
        e->channels.first != channels) {
      throw Unsupported("of parts that are not all of one value");
    }
    const OnnxConstant& w = e->weight;
    if (!w || w->integer || w->dims.size() != 4) throw Unsupported("without constant weights");
    const std::int64_t group = integer_of(*e->node, "group", 1);
    depthwise = depthwise && group == e->channels.count && w->dims[0] == group && w->dims[1] == 1;
    if (!depthwise && w->dims[1] * group != e->channels.count)
      throw Unsupported("of other weights");
    channels += e->channels.count;
    out += w->dims[0];
    parts.push_back(e);
  }
  if (channels != net.channels(parts[0]->channels.of))
    throw Unsupported("of some parts of a value");
  return depthwise ? join_depthwise(net, node, parts) : join_pointwise(net, node, parts, out);
}

// Values to be joined along a dimension.
struct Pieces {
  std::vector<View> views;
  std::size_t axis;

  Pieces(GraphBuilder& net, const OnnxNode& node, const Values& in) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) views.push_back(view(net.settled(in[i])));
    axis = axis_of(integer_of(node, "axis", 0), views[0].dims.size());
    for (const View& x : views) {
      if (x.dims.size() != views[0].dims.size()) throw Unsupported("of values of different shapes");
    }
  }
};

// As channels one after the other, where nothing but these differs; they become dimension `axis`.
View side_by_side(GraphBuilder& net, const std::string& name, std::vector<View> parts,
                  std::size_t axis) {
  std::vector<ValueId> ids;
  for (View& x : parts) {
    ids.push_back(x.id);
    x.dims[axis].clear();
    if (x.dims != parts[0].dims) throw Unsupported("of values of different shapes");
  }
  View all = parts[0];
  all.id = net.add(name, ConcatNode{}, std::move(ids));
  all.dims[axis] = single_axis(1, net.channels(all));
  return all;
}

// A value's channels one by one, each times a number and plus another, and side by side again: as
// one function of the value, which is what networks begin with that were trained on other colours.
std::optional<View> rejoined(GraphBuilder& net, const std::string& name, const Pieces& pieces) {
  const View& first = pieces.views[0];
  const Shape& s = net.shape(first);
  if (!first.partial || s.rank() != 4) return std::nullopt;
  Floats scale, shift;
  for (const View& x : pieces.views) {
    View like = first;
    like.dims[pieces.axis] = x.dims[pieces.axis];
    like.first = static_cast<std::int64_t>(scale.size());
    const std::vector<Axis>& axes = x.dims[pieces.axis];
    const bool next = x.same_elements(like) && x.padding == Padding(0) && axes.size() <= 1;
    if (!next || (!axes.empty() && (axes[0].axis != 1 || axes[0].step != 1))) return std::nullopt;
    const std::size_t count = to_size(size_of(axes));
    scale.insert(scale.end(), count, static_cast<float>(x.scale));
    shift.insert(shift.end(), count, static_cast<float>(x.shift));
  }
  View all = first;
  all.dims[pieces.axis] = single_axis(1, s[1]);
  all.partial = false;
  all.first = 0;
  all.scale = 1;
  all.shift = 0;
  const bool whole = scale.size() == to_size(s[1]) && size_of(all.dims[pieces.axis]) == s[1];
  return whole ? std::optional(net.affine(name, all, scale, shift)) : std::nullopt;
}

// Along the channels, whatever the order of the dimensions.
View concat_channels(GraphBuilder& net, const std::string& name, const Pieces& pieces) {
  std::vector<View> parts;
  for (const View& piece : pieces.views) {
    const View x =
        shuffled_groups(piece, net.shape(piece)) > 1 ? net.image(piece) : net.real(piece);
    if (net.shape(x).rank() != 4 || !is_axis(x, pieces.axis, 1, net.shape(x))) {
      throw Unsupported("of other than the channels");
    }
    parts.push_back(x);
  }
  return side_by_side(net, name, std::move(parts), pieces.axis);
}

// Along a dimension that none of them has: all channels of one after those of the other.
std::optional<View> concat_new(GraphBuilder& net, const std::string& name, const Pieces& pieces) {
  std::vector<View> parts;
  for (const View& piece : pieces.views) {
    parts.push_back(net.real(piece));
    const View &x = parts.back(), &first = parts.front();
    const bool alike = x.dims == first.dims && net.shape(x) == net.shape(first);
    if (net.shape(x).rank() != 4 || !x.dims[pieces.axis].empty() || !alike) return std::nullopt;
  }
  const std::int64_t each = net.channels(parts[0]);
  View all = side_by_side(net, name, std::move(parts), pieces.axis);
  all.dims[pieces.axis] = {{1, static_cast<std::int64_t>(pieces.views.size()), each}};
  return all;
}

// Along whatever dimension, as the channels of copies.
View concat_copies(GraphBuilder& net, const std::string& name, const Pieces& pieces) {
  const auto parts = [&](bool keep_images) {
    std::vector<View> views;
    for (const View& piece : pieces.views) {
      views.push_back(net.matrices(piece, pieces.axis, keep_images));
    }
    return views;
  };
  try {
    return side_by_side(net, name, parts(true), pieces.axis);
  } catch (const Unsupported&) {
    // What are images of one are something else of another.
    return side_by_side(net, name, parts(false), pieces.axis);
  }
}

// What a concatenation of positions needs of a part: [N, positions, channels] in any order, where
// positions are the pixels, and factors of the channels besides, and channels those that are left.
struct PositionsOf {
  std::vector<Axis> tokens;
  std::int64_t channels = 1;
  std::size_t dim = 0;  ///< of the channels
};

std::optional<PositionsOf> positions_of(const GraphBuilder& net, const View& x, std::size_t axis) {
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
View concat_positions(GraphBuilder& net, const std::string& name, const Pieces& pieces) {
  TokensNode n;
  std::vector<ValueId> parts;
  View all;
  std::size_t channels_dim = 0;
  for (const View& piece : pieces.views) {
    const View x = net.real(piece);
    const auto p = positions_of(net, x, pieces.axis);
    if (!p) throw Unsupported("of other than the channels or all positions");
    if (parts.empty()) {
      n.channels = p->channels;
      channels_dim = p->dim;
      all.dims = x.dims;
    }
    if (p->channels != n.channels || p->dim != channels_dim) {
      throw Unsupported("of values of different shapes");
    }
    n.tokens.push_back(p->tokens);
    parts.push_back(x.id);
  }
  all.id = net.add(name, std::move(n), std::move(parts));
  all.dims[pieces.axis] = single_axis(2, net.shape(all)[2]);
  all.dims[channels_dim] = single_axis(1, net.channels(all));
  return all;
}

}  // namespace

Values import_concat(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const auto is_part = [](const Value& v) { return expression<ConvolvedChannels>(v) != nullptr; };
  const auto end = in.begin() + static_cast<std::ptrdiff_t>(node.inputs.size());
  if (std::all_of(in.begin(), end, is_part)) return {join(net, node, in)};
  if (constant(in, 0) && node.inputs.size() == 2) {
    const ClassTokens tokens{net.real(in[1]), constant(in, 0)};
    if (takes_class_token(net, tokens)) return {waiting(tokens)};
  }
  const Pieces pieces(net, node, in);
  if (const auto all = rejoined(net, node.name, pieces)) return {*all};
  const View first = net.real(pieces.views[0]);
  const bool channels = is_axis(first, pieces.axis, 1, net.shape(first)) ||
                        shuffled_groups(first, net.shape(first)) > 1;
  try {
    return {channels ? concat_channels(net, node.name, pieces)
                     : concat_positions(net, node.name, pieces)};
  } catch (const Unsupported&) {
    if (const auto all = concat_new(net, node.name, pieces)) return {*all};
    return {concat_copies(net, node.name, pieces)};
  }
}

}  // namespace sepconv::importer
