#include "importer/builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/sizes.h"
#include "graph/plan.h"

namespace sepconv::importer {

Constant tensor_of(const Shape& shape, const Floats& values) {
  if (static_cast<std::size_t>(shape.elements()) != values.size()) {
    throw Unsupported("weights of another shape");
  }
  auto t = std::make_shared<Tensor>(shape);
  std::copy(values.begin(), values.end(), t->data());
  return t;
}

Conv2dNode one_tap(std::int64_t channels, Size2d window) {
  const std::int64_t taps = window.height * window.width;
  auto weight = std::make_shared<Tensor>(Shape{channels, 1, window.height, window.width});
  for (std::int64_t c = 0; c < channels; ++c) weight->data()[(c + 1) * taps - 1] = 1;
  Conv2dNode conv;
  conv.weight = std::move(weight);
  conv.groups = channels;
  return conv;
}

Constant vector_of(const Floats& values) {
  return tensor_of({static_cast<std::int64_t>(values.size())}, values);
}

Floats matrix(const Floats& from, std::int64_t out, std::int64_t k, bool turn) {
  if (!turn) return from;
  Floats to(from.size());
  for (std::size_t o = 0; o < to_size(out); ++o) {
    for (std::size_t i = 0; i < to_size(k); ++i)
      to[o * to_size(k) + i] = from[i * to_size(out) + o];
  }
  return to;
}

bool nearly(double a, double b) { return std::abs(a - b) <= 1e-5 * std::abs(b); }

Size2d pair_of(const OnnxNode& node, const char* name) {
  const Dims list = list_of(node, name);
  if (list.empty()) return 1;
  if (list.size() != 2) throw Unsupported("over other than two dimensions");
  return {list[0], list[1]};
}

GraphBuilder::GraphBuilder(std::int64_t operators, const Shape& in, int bits)
    : shapes(infer_shapes(graph, in)), input(in), opset(operators), bits_(bits) {}

ValueId GraphBuilder::add(const std::string& name, decltype(Node::op) op,
                          std::vector<ValueId> inputs) {
  const ValueId id = graph.add(name, std::move(op), std::move(inputs));
  try {
    const Shape shape = infer_shape(graph, id, shapes, input);
    if (shape.elements() > std::int64_t{1} << bits_) {
      throw Unsupported(fmt::format("of more than 2^{} elements", bits_));
    }
    shapes.push_back(shape);
  } catch (...) {
    graph.nodes.pop_back();
    throw;
  }
  return id;
}

View GraphBuilder::add_view(const std::string& name, decltype(Node::op) op,
                            std::vector<ValueId> inputs) {
  const ValueId id = add(name, std::move(op), std::move(inputs));
  return whole_view(id, shapes[id]);
}

View GraphBuilder::add_same(const std::string& name, decltype(Node::op) op, const View& x,
                            const std::vector<ValueId>& others) {
  std::vector<ValueId> inputs{x.id};
  inputs.insert(inputs.end(), others.begin(), others.end());
  View y = x;
  y.id = add(name, std::move(op), std::move(inputs));
  return y;
}

// A value of its own for some of another one's channels, a range where they are side by side.
View GraphBuilder::some_channels(const View& x) {
  std::int64_t count = 1;
  bool adjacent = true;
  std::size_t dim = x.dims.size() - 1;
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    for (const Axis& axis : x.dims[i]) {
      if (axis.axis != 1) continue;
      adjacent = adjacent && count == 1 && axis.step == 1;
      count = axis.size;
      dim = i;
    }
  }
  if (!adjacent || shape(x).rank() != 4) return matrices(x, dim);
  const std::tuple range{x.id, x.first, count};
  if (!ranges_.contains(range)) {
    ranges_[range] = add("channels", ChannelsNode{x.first, count}, {x.id});
  }
  View y = x;
  y.id = ranges_[range];
  y.partial = false;
  y.first = 0;
  return y;
}

// With its padding in place.
View GraphBuilder::padded(View x) {
  PadNode n;
  n.amount = x.padding;
  n.value = x.padded_with;
  x.padding = 0;
  View y = add_view("pad", n, {image(View{x.id, x.dims}).id});
  y.scale = x.scale;
  y.shift = x.shift;
  return y;
}

View GraphBuilder::real(const Value& value) {
  View v = view(value);
  if (v.padding != Padding(0)) v = padded(v);
  if (v.partial) v = some_channels(v);
  if (v.scale == 1 && v.shift == 0) return v;
  const auto [known, is_new] = done_.try_emplace({v.id, v.scale, v.shift}, v.id);
  if (is_new) {
    const std::size_t n = to_size(channels(v));
    const Floats scale(n, static_cast<float>(v.scale)), shift(n, static_cast<float>(v.shift));
    try {
      known->second = affine("scale", v, scale, shift).id;
    } catch (...) {
      done_.erase(known);
      throw;
    }
  }
  v.id = known->second;
  v.scale = 1;
  v.shift = 0;
  return v;
}

bool GraphBuilder::is_real(ValueId id, const View& v) const {
  if (v.padding != Padding(0) || v.partial) return false;
  if (v.scale == 1 && v.shift == 0) return id == v.id;
  const auto known = done_.find({v.id, v.scale, v.shift});
  return known != done_.end() && known->second == id;
}

View GraphBuilder::image(const Value& value) {
  View v = real(value);
  if (const std::int64_t groups = shuffled_groups(v, shape(v)); groups > 1) {
    auto known = shuffled_.find({v.id, groups});
    if (known == shuffled_.end()) {
      const ValueId id = add("shuffle", ChannelShuffleNode{groups}, {v.id});
      known = shuffled_.emplace(std::pair(v.id, groups), id).first;
    }
    return whole_view(known->second, shape(v));
  }
  return is_image(v, shape(v)) ? v : four_dimensions(v);
}

namespace {

// The same weights, for results · scale (+ shift).
Constant scaled(const Constant& weight, const Floats& scale, const Floats* shift) {
  const std::size_t n = scale.size(), each = to_size(weight->shape().elements()) / n;
  Floats values(weight->data(), weight->data() + n * each);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = values[i] * scale[i / each] + (shift ? (*shift)[i / each] : 0);
  }
  return tensor_of(weight->shape(), values);
}

}  // namespace

View GraphBuilder::affine(const std::string& name, const View& x, const Floats& scale,
                          const Floats& shift) {
  const auto reads_it = [&x](const Node& node) {
    return std::find(node.inputs.begin(), node.inputs.end(), x.id) != node.inputs.end();
  };
  // What others read is computed anyway.
  const bool shared = std::any_of(graph.nodes.begin(), graph.nodes.end(), reads_it);
  const Node source = shared ? Node() : graph.nodes[x.id];
  View y = x;
  if (const auto* norm = std::get_if<LayerNormNode>(&source.op)) {
    LayerNormNode n = *norm;
    n.weight = scaled(norm->weight, scale, nullptr);
    n.bias = scaled(norm->bias, scale, &shift);
    y.id = add(source.name, std::move(n), {source.inputs[0]});
    return y;
  }
  if (std::holds_alternative<ScaleShiftNode>(source.op)) {
    const Node factors = graph.nodes[source.inputs[1]];
    if (const auto* norm = std::get_if<GroupScaleNode>(&factors.op)) {
      GroupScaleNode n{scaled(norm->weight, scale, nullptr), scaled(norm->bias, scale, &shift),
                       norm->groups, norm->epsilon};
      const ValueId by = add(factors.name, std::move(n), factors.inputs);
      y.id = add(source.name, source.op, {source.inputs[0], by});
      return y;
    }
  }
  const auto* linear = std::get_if<LinearNode>(&source.op);
  if (linear && linear->activation == Activation()) {
    LinearNode n;
    n.weight = scaled(linear->weight, scale, nullptr);
    n.bias = linear->bias ? scaled(linear->bias, scale, &shift) : vector_of(shift);
    y.id = add(source.name, std::move(n), {source.inputs[0]});
    return y;
  }
  const Floats zeros(scale.size(), 0), ones(scale.size(), 1);
  return add_same(
      name,
      BatchNormNode{vector_of(scale), vector_of(shift), vector_of(zeros), vector_of(ones), 0.0}, x);
}

ValueId GraphBuilder::as_vector(const View& v, const std::string& name) {
  if (shape(v).rank() == 2) return v.id;
  if (shape(v)[2] * shape(v)[3] != 1) throw Unsupported("of an image");
  return add(name + ".flat", FirstTokenNode{}, {v.id});
}

std::optional<Floats> GraphBuilder::by_channel(const View& x, const OnnxConstant& c) const {
  if (!c || c->dims.size() > x.dims.size()) return std::nullopt;
  const std::size_t n = to_size(channels(x)), lead = x.dims.size() - c->dims.size();
  const auto value = [&](std::size_t i) {
    return c->integer ? static_cast<float>(c->integers[i]) : c->floats[i];
  };
  if (c->size() == 1) return Floats(n, value(0));
  for (std::size_t i = 0; i < c->dims.size(); ++i) {
    if (c->dims[i] != 1 && !is_axis(x, lead + i, 1, shape(x))) return std::nullopt;
  }
  if (c->size() != n) return std::nullopt;
  Floats values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = value(i);
  return values;
}

Constant GraphBuilder::map_for(const View& x, const OnnxConstant& c) const {
  const Shape& s = shape(x);
  const std::size_t rank = x.dims.size();
  if (!c || c->integer || c->dims.size() > rank || s.rank() != 4) return nullptr;
  // Where along the constant an element of the axis counts.
  struct Step {
    Axis axis;
    std::int64_t floats;
  };
  std::vector<Step> steps;
  std::int64_t floats = 1;
  for (std::size_t i = rank; i-- > rank - c->dims.size();) {
    const std::int64_t size = c->dims[i - (rank - c->dims.size())];
    if (size == 1) continue;
    if (size != x.sizes()[i]) return nullptr;
    std::int64_t each = floats;
    for (std::size_t a = x.dims[i].size(); a-- > 0;) {
      if (x.dims[i][a].axis == 0) return nullptr;
      steps.push_back({x.dims[i][a], each});
      each *= x.dims[i][a].size;
    }
    floats *= size;
  }
  auto map = std::make_shared<Tensor>(Shape{s[1], s[2], s[3]});
  for (std::int64_t i = 0; i < map->shape().elements(); ++i) {
    const std::int64_t at[] = {0, i / (s[2] * s[3]), i / s[3] % s[2], i % s[3]};
    std::int64_t from = 0;
    for (const auto& [axis, each] : steps) from += at[axis.axis] / axis.step % axis.size * each;
    map->data()[i] = c->floats[to_size(from)];
  }
  return map;
}

Padding GraphBuilder::padding_of(const OnnxNode& node, const View& x, Size2d kernel, Size2d stride,
                                 Size2d dilation) const {
  const Padding pad = x.padding;
  const std::string how = text_of(node, "auto_pad", "NOTSET");
  if (how == "SAME_UPPER" || how == "SAME_LOWER") {
    if (pad != Padding(0)) throw Unsupported("of padded values with padding of its own");
    Padding same = Padding::same({shape(x)[2], shape(x)[3]}, kernel, stride, dilation);
    if (how == "SAME_LOWER") {
      std::swap(same.top, same.bottom);
      std::swap(same.left, same.right);
    }
    return same;
  }
  const Dims pads = list_of(node, "pads");
  if (how == "VALID" || pads.empty()) return pad;
  if (pads.size() != 4) throw Unsupported("over other than two dimensions");
  return {pad.top + pads[0], pad.bottom + pads[2], pad.left + pads[1], pad.right + pads[3]};
}

}  // namespace sepconv::importer
