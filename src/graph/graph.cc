#include "sepconv/graph.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/sizes.h"
#include "graph/plan.h"
#include "ops/arguments.h"

namespace sepconv {

ValueId Graph::add(std::string name, decltype(Node::op) op, std::vector<ValueId> inputs) {
  for (ValueId input : inputs) {
    check(input < nodes.size(), "graph: {} reads value {}, of which there are {}", name, input,
          nodes.size());
  }
  nodes.push_back({std::move(name), std::move(op), std::move(inputs)});
  outputs = {last()};
  return last();
}

Padding pool_padding(const Pool2dNode& n, const Shape& x) {
  Padding pad = n.options.padding;
  if (!n.ceil_mode) return pad;
  const auto rest = [](std::int64_t size, std::int64_t before, std::int64_t& after,
                       std::int64_t kernel, std::int64_t stride) {
    const std::int64_t room = size + before + after - kernel;
    std::int64_t last = (room + stride - 1) / stride * stride;
    if (last >= size + before) last -= stride;
    after += std::max<std::int64_t>(last - room, 0);
  };
  rest(x[2], pad.top, pad.bottom, n.options.kernel.height, n.options.stride.height);
  rest(x[3], pad.left, pad.right, n.options.kernel.width, n.options.stride.width);
  return pad;
}

Shape transposed_output(const ConvTranspose2dNode& n, const Shape& x) {
  const Shape& w = n.weight->shape();
  const auto size = [](const char* axis, std::int64_t in, std::int64_t k, std::int64_t stride,
                       std::int64_t dilation, std::int64_t padding, std::int64_t extra) {
    // One convolution for each phase of the stride.
    constexpr std::int64_t kMost = std::int64_t{1} << 31, kMostStride = 64;
    const bool known = k >= 1 && stride >= 1 && dilation >= 1 && padding >= 0 && extra >= 0;
    check(
        known && stride <= kMostStride && std::max({in, k, dilation, padding}) < kMost &&
            extra < std::max(stride, dilation),
        "{}: stride {}, dilation {}, padding {}, output padding {}, expected a stride of 1 to 64, "
        "the others below 2^31, and less output padding than stride or dilation",
        axis, stride, dilation, padding, extra);
    const std::int64_t out = (in - 1) * stride + (k - 1) * dilation + 1 - padding + extra;
    check(out < kMost, "{}: the result would have {}, expected less than 2^31", axis, out);
    check(out >= 1, "{}: the result would have {}, expected at least 1", axis, out);
    return out;
  };
  const Padding& p = n.padding;
  check(std::min({p.top, p.bottom, p.left, p.right}) >= 0, "padding: got a negative one");
  return {x[0], w[0],
          size("height", x[2], w[2], n.stride.height, n.dilation.height, p.top + p.bottom,
               n.output_padding.height),
          size("width", x[3], w[3], n.stride.width, n.dilation.width, p.left + p.right,
               n.output_padding.width)};
}

Padding mixed_padding(const MixedDepthwiseNode& n, const Shape& x, std::int64_t kernel) {
  return n.same_padding ? Padding::same({x[2], x[3]}, kernel, n.stride) : Padding(kernel / 2);
}

namespace {

std::int64_t product(const std::vector<AxisFactor>& axes, const Shape& of) {
  std::int64_t all = 1;
  for (const AxisFactor& a : axes) {
    check(a.axis >= 0 && a.axis < of.rank() && a.size > 0 && a.step >= 0 &&
              (a.size - 1) * a.step < of[a.axis],
          "takes {} indices, {} apart, of axis {} of {}", a.size, a.step, a.axis, to_string(of));
    all *= a.size;
  }
  return all;
}

// Of a window.
std::int64_t tokens_of(const AttentionNode& n, const Shape& x) {
  return n.window.whole() ? x[2] * x[3] : n.window.size.height * n.window.size.width;
}

struct ShapeOf {
  const std::vector<Shape>& shapes;
  const Node& node;
  const Shape& network_input;

  const Shape& in(std::size_t i = 0) const { return shapes[node.inputs[i]]; }

  Shape operator()(const InputNode&) const { return network_input; }
  Shape operator()(const BatchNormNode& n) const {
    const Shape expected{in().rank() == 4 || in().rank() == 2 ? in()[1] : 0};
    check(n.mean->shape() == expected, "batch norm over {} channels, x is {}", n.mean->shape()[0],
          to_string(in()));
    return in();
  }
  Shape operator()(const ActivationNode&) const { return in(); }
  Shape operator()(const SoftmaxNode&) const { return in(); }
  Shape operator()(const AddNode&) const {
    check(in(0) == in(1), "adds {} and {}, expected equal shapes", to_string(in(0)),
          to_string(in(1)));
    return in();
  }
  Shape operator()(const ConstantNode& n) const {
    const Shape& map = n.map->shape();
    check(map.rank() == 3, "a constant of shape {}, expected [C, H, W]", to_string(map));
    return {in()[0], map[0], map[1], map[2]};
  }
  Shape operator()(const ChooseNode& n) const {
    check(is_map(n.map) && in(1) == in(), "chooses between {} and {} by {}", to_string(in()),
          to_string(in(1)), to_string(n.map->shape()));
    return in();
  }
  Shape operator()(const PickNode& n) const {
    const int axis = n.channels ? 1 : 2;
    for (const std::int64_t i : n.order) {
      check(in().rank() == 4 && i >= 0 && i < in()[axis], "picks {} {} of {}",
            n.channels ? "channel" : "row", i, to_string(in()));
    }
    const auto count = static_cast<std::int64_t>(n.order.size());
    return {in()[0], n.channels ? count : in()[1], n.channels ? in()[2] : count, in()[3]};
  }
  Shape operator()(const AddMapNode& n) const {
    check(is_map(n.map), "adds {} to images of {}", to_string(n.map->shape()), to_string(in()));
    return in();
  }
  Shape operator()(const MultiplyMapNode& n) const {
    check(is_map(n.map), "multiplies images of {} by {}", to_string(in()),
          to_string(n.map->shape()));
    return in();
  }
  Shape operator()(const MultiplyNode&) const {
    check(in(0) == in(1), "multiplies {} and {}, expected equal shapes", to_string(in(0)),
          to_string(in(1)));
    return in();
  }
  Shape operator()(const FunctionNode&) const { return in(); }
  Shape operator()(const PReluNode& n) const {
    check(in().rank() >= 2 && n.slope->shape() == Shape{in()[1]}, "{} slopes for {}",
          n.slope->shape().elements(), to_string(in()));
    return in();
  }
  Shape operator()(const ScalePixelsNode&) const {
    check(in(0).rank() == 4 && in(1) == Shape({in(0)[0], 1, in(0)[2], in(0)[3]}),
          "scales the pixels of {} by {}, expected [N, 1, H, W]", to_string(in(0)),
          to_string(in(1)));
    return in();
  }
  Shape operator()(const MatrixProductNode& n) const {
    const Shape &a = in(0), &b = in(1);
    const bool matrices = a.rank() == 4 && b.rank() == 4 && a[0] == b[0] && a[3] * b[3] == 1 &&
                          n.matrices > 0 && a[2] % n.matrices == 0 && b[2] % n.matrices == 0;
    check(matrices && a[1] > 0 && a[1] == (n.transposed ? b[1] : b[2] / n.matrices),
          "multiplies {} matrices of {} by {}{}, expected some that fit", n.matrices, to_string(a),
          n.transposed ? "transposed ones of " : "", to_string(b));
    return {a[0], n.transposed ? b[2] / n.matrices : b[1], a[2], 1};
  }
  Shape operator()(const NormalizeNode&) const { return in(); }
  Shape operator()(const PadNode& n) const {
    const Padding& p = n.amount;
    const bool channels = n.channels_before + n.channels_after > 0;
    constexpr std::int64_t kMost = 1 << 16;
    const std::int64_t amounts[] = {p.top,   p.bottom,          p.left,
                                    p.right, n.channels_before, n.channels_after};
    check(in().rank() == 4 && in().elements() > 0, "pads {}, expected [N, C, H, W]",
          to_string(in()));
    for (const std::int64_t a : amounts) {
      check(a >= 0 && a <= kMost, "pads by {}, expected 0 to {}", a, kMost);
    }
    check(n.mode == PadMode::kConstant || !channels, "pads channels by other than a constant");
    check(n.mode != PadMode::kReflect ||
              (std::max(p.top, p.bottom) < in()[2] && std::max(p.left, p.right) < in()[3]),
          "mirrors more than there is of {}", to_string(in()));
    return {in()[0], in()[1] + n.channels_before + n.channels_after, in()[2] + p.top + p.bottom,
            in()[3] + p.left + p.right};
  }
  Shape operator()(const ChannelPoolNode&) const {
    check(in().rank() == 4 && in()[1] > 0, "pools the channels of {}", to_string(in()));
    return {in()[0], 1, in()[2], in()[3]};
  }
  Shape operator()(const MaximumNode&) const {
    check(in(0) == in(1), "takes the larger of {} and {}, expected equal shapes", to_string(in(0)),
          to_string(in(1)));
    return in();
  }
  Shape operator()(const DivideNode&) const {
    check(in(0) == in(1), "divides {} by {}, expected equal shapes", to_string(in(0)),
          to_string(in(1)));
    return in();
  }
  Shape operator()(const Conv2dNode& n) const {
    const Shape& w = n.weight->shape();
    check(in().rank() == 4 && in()[1] == w[1] * n.groups,
          "x is {}, expected {} channels for weights of {} and {} groups", to_string(in()),
          w[1] * n.groups, to_string(w), n.groups);
    return window_output(in(), w[0], {w[2], w[3]}, n.options.stride, padding_of(n, in()),
                         n.options.dilation);
  }
  Shape operator()(const ConvTranspose2dNode& n) const {
    const Shape& w = n.weight->shape();
    check(in().rank() == 4 && in()[1] == w[1] * n.groups && w[0] % n.groups == 0,
          "x is {}, expected {} channels for weights of {} and {} groups", to_string(in()),
          w[1] * n.groups, to_string(w), n.groups);
    return transposed_output(n, in());
  }
  Shape operator()(const MixedDepthwiseNode& n) const {
    std::int64_t channels = 0;
    for (const Constant& w : n.weights) channels += w->shape()[0];
    check(in().rank() == 4 && in()[1] == channels, "x is {}, expected {} channels", to_string(in()),
          channels);
    Shape shape = in();
    for (const Constant& w : n.weights) {
      const std::int64_t k = w->shape()[2];
      shape = window_output(in(), channels, k, n.stride, mixed_padding(n, in(), k), 1);
    }
    return shape;
  }
  Shape operator()(const ScaleNode&) const {
    check(in(0).rank() == 4 && in(1) == Shape({in(0)[0], in(0)[1]}),
          "scales {} by {}, expected [N, C]", to_string(in(0)), to_string(in(1)));
    return in();
  }
  Shape operator()(const LayerNormNode& n) const {
    check(in().rank() >= 2 && n.weight->shape() == Shape{in()[1]},
          "layer norm over {} channels, "
          "x is {}",
          n.weight->shape()[0], to_string(in()));
    return in();
  }
  Shape operator()(const ResponseScaleNode& n) const {
    check(in().rank() == 4 && n.weight->shape() == Shape{in()[1]},
          "response norm over {} channels, x is {}", n.weight->shape()[0], to_string(in()));
    return {in()[0], in()[1]};
  }
  Shape operator()(const GroupScaleNode& n) const {
    check(in().rank() == 4 && in()[2] * in()[3] > 0 && n.weight->shape() == Shape{in()[1]} &&
              n.groups > 0 && in()[1] % n.groups == 0,
          "group norm of {} groups and {} channels, x is {}", n.groups, n.weight->shape()[0],
          to_string(in()));
    return {in()[0], 2 * in()[1]};
  }
  Shape operator()(const ScaleShiftNode&) const {
    check(in(0).rank() == 4 && in(1) == Shape({in(0)[0], 2 * in(0)[1]}),
          "scales and shifts {} by {}, expected [N, 2C]", to_string(in(0)), to_string(in(1)));
    return in();
  }
  Shape operator()(const ClassTokensNode& n) const {
    check(in().rank() == 4 && n.token->shape().elements() == in()[1],
          "class token of {} channels, x is {}", n.token->shape().elements(), to_string(in()));
    check(network_input[2] % n.patch == 0 && network_input[3] % n.patch == 0,
          "the network's input is {}, expected whole patches of {} x {}", to_string(network_input),
          n.patch, n.patch);
    return {in()[0], in()[1], 1 + in()[2] * in()[3], 1};
  }
  Shape operator()(const AttentionNode& n) const {
    const AttentionHeads& h = n.heads;
    const auto check_part = [&](const char* name, const Shape& x, const HeadChannels& part) {
      const bool images = x.rank() == 4 && x[0] == in()[0] && h.heads > 0;
      const bool fits = images && part.first >= 0 && part.step >= 0 && part.count > 0 &&
                        part.first + (h.heads - 1) * part.step + part.count <= x[1];
      check(fits, "attention finds no {} heads of {} {} in {}", h.heads, part.count, name,
            to_string(x));
    };
    check_part("queries", in(0), h.q);
    check_part("keys", in(1), h.k);
    check_part("values", in(2), h.v);
    const Size2d size = n.window.size;
    const auto has_windows = [&](const Shape& x) {
      return x[2] == in()[2] && x[3] == in()[3] && size.height > 0 && size.width > 0 &&
             x[2] % size.height == 0 && x[3] % size.width == 0;
    };
    check(n.window.whole() || (has_windows(in(0)) && has_windows(in(1)) && has_windows(in(2))),
          "attention in windows of {} x {} of {}, {} and {}", size.height, size.width,
          to_string(in(0)), to_string(in(1)), to_string(in(2)));
    const std::int64_t queries = tokens_of(n, in(0)), keys = tokens_of(n, in(1));
    check(h.q.count == h.k.count, "attention of {} query channels and {} of keys", h.q.count,
          h.k.count);
    check(keys == tokens_of(n, in(2)), "attention of {} keys and {} values", keys,
          tokens_of(n, in(2)));
    check(!n.bias || n.bias->shape() == Shape({h.heads, queries, keys}),
          "attention adds {} to scores of {}", n.bias ? to_string(n.bias->shape()) : "",
          to_string(Shape({h.heads, queries, keys})));
    return {in()[0], h.heads * h.v.count, in()[2], in()[3]};
  }
  Shape operator()(const FirstTokenNode&) const { return {in()[0], in()[1]}; }
  Shape operator()(const PatchMapNode& n) const {
    const std::int64_t h = network_input[2] / n.patch, w = network_input[3] / n.patch;
    check(in().rank() == 4 && in()[2] == 1 + h * w, "tokens are {}, expected 1 + {} x {}",
          to_string(in()), h, w);
    return {in()[0], in()[1], h, w};
  }
  Shape operator()(const ChannelsNode& n) const {
    check(in().rank() == 4 && n.first >= 0 && n.count > 0 && n.first + n.count <= in()[1],
          "takes channels {} to {} of {}", n.first, n.first + n.count, to_string(in()));
    return {in()[0], n.count, in()[2], in()[3]};
  }
  Shape operator()(const ChannelShuffleNode& n) const {
    check(in().rank() == 4 && n.groups > 0 && in()[1] % n.groups == 0,
          "shuffles {} groups of channels of {}", n.groups, to_string(in()));
    return in();
  }
  Shape operator()(const ResizeNode& n) const {
    check(in().rank() == 4 && in()[2] > 0 && in()[3] > 0, "resizes {}, expected [N, C, H, W]",
          to_string(in()));
    const auto size = [](std::int64_t in, std::int64_t given, double scale) {
      const double out = given > 0 ? static_cast<double>(given) : std::floor(double(in) * scale);
      check(out >= 1 && out <= 1 << 16, "resizes {} by {}, expected a size of 1 to 2^16", in,
            scale);
      return static_cast<std::int64_t>(out);
    };
    return {in()[0], in()[1], size(in()[2], n.size.height, n.scale_height),
            size(in()[3], n.size.width, n.scale_width)};
  }
  Shape operator()(const ArrangeNode& n) const {
    std::vector<std::int64_t> dims;
    std::array<std::int64_t, 4> last = n.first;
    for (const std::vector<AxisFactor>& axes : n.dims) {
      dims.push_back(product(axes, in()));
      for (const AxisFactor& a : axes) last[to_size(a.axis)] += (a.size - 1) * a.step;
    }
    for (int i = 0; i < in().rank(); ++i) {
      check(n.first[to_size(i)] >= 0 && last[to_size(i)] < in()[i],
            "takes index {} of axis {} of {}", last[to_size(i)], i, to_string(in()));
    }
    check(!n.image || dims.size() == 4, "arranges an image of {} dimensions", dims.size());
    return Shape(dims.data(), static_cast<int>(dims.size()));
  }
  Shape operator()(const TokensNode& n) const {
    std::int64_t positions = 0;
    check(n.tokens.size() == node.inputs.size(), "takes tokens of {} values, expected {}",
          n.tokens.size(), node.inputs.size());
    for (std::size_t i = 0; i < n.tokens.size(); ++i) {
      check(in(i).rank() >= 2 && in(i)[0] == in()[0] && n.channels > 0 && n.channels <= in(i)[1],
            "takes tokens of {} channels of {}", n.channels, to_string(in(i)));
      positions += product(n.tokens[i], in(i));
    }
    return {in()[0], n.channels, positions, 1};
  }
  Shape operator()(const ConcatNode&) const {
    Shape shape = in();
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      const Shape& s = in(i);
      check(s.rank() == 4 && s[0] == shape[0] && s[2] == shape[2] && s[3] == shape[3],
            "concatenates {} and {}, expected equal sizes but for the channels", to_string(in()),
            to_string(s));
      shape = {shape[0], shape[1] + s[1], shape[2], shape[3]};
    }
    return shape;
  }
  Shape operator()(const Pool2dNode& n) const {
    const Pool2dOptions& o = n.options;
    return window_output(in(), in()[1], o.kernel, o.stride, pool_padding(n, in()), 1);
  }
  Shape operator()(const GlobalAveragePoolNode&) const { return {in()[0], in()[1]}; }
  Shape operator()(const LinearNode& n) const {
    check(in().rank() == 2 && in()[1] == n.weight->shape()[1], "x is {}, expected [N, {}]",
          to_string(in()), n.weight->shape()[1]);
    return {in()[0], n.weight->shape()[0]};
  }

  bool is_map(const Constant& map) const {
    return in().rank() == 4 && map->shape() == Shape({in()[1], in()[2], in()[3]});
  }
  static Padding padding_of(const Conv2dNode& n, const Shape& x) {
    if (!n.same_padding) return n.options.padding;
    const Shape& w = n.weight->shape();
    return Padding::same({x[2], x[3]}, {w[2], w[3]}, n.options.stride, n.options.dilation);
  }
};

}  // namespace

namespace {

struct MacsOf {
  const Shape &in, &last_in, &out;

  double per_output(double products) const {
    return static_cast<double>(out.elements()) * products;
  }
  double operator()(const Conv2dNode& n) const {
    const Shape& w = n.weight->shape();
    return per_output(static_cast<double>(w[1] * w[2] * w[3]));
  }
  double operator()(const ConvTranspose2dNode& n) const {
    const Shape& w = n.weight->shape();
    return static_cast<double>(in[0] * in[2] * in[3]) * static_cast<double>(w.elements());
  }
  double operator()(const MixedDepthwiseNode& n) const {
    double sum = 0;
    for (const Constant& w : n.weights) sum += static_cast<double>(w->shape().elements());
    return sum * static_cast<double>(out[0] * out[2] * out[3]);
  }
  double operator()(const LinearNode&) const { return per_output(static_cast<double>(in[1])); }
  double operator()(const MatrixProductNode&) const {
    return per_output(static_cast<double>(in[1]));
  }
  double operator()(const AttentionNode& n) const {
    const std::int64_t queries = out[2] * out[3], keys = tokens_of(n, last_in);
    const auto scores = static_cast<double>(out[0] * n.heads.heads * queries * keys);
    return scores * static_cast<double>(n.heads.k.count + n.heads.v.count);
  }
  template <class Other>
  double operator()(const Other&) const {
    return 0;
  }
};

}  // namespace

Graph without_classifier(Graph graph) {
  const Node& last = graph.nodes[graph.outputs[0]];
  check(graph.outputs.size() == 1 && std::holds_alternative<LinearNode>(last.op),
        "graph: ends with {}, expected a linear layer that classifies", last.name);
  graph.outputs = {last.inputs[0]};
  return graph;
}

Graph without_softmax(Graph graph) {
  const Node& last = graph.nodes[graph.outputs[0]];
  const bool ends = graph.outputs.size() == 1 && std::holds_alternative<SoftmaxNode>(last.op);
  if (ends) graph.outputs = {last.inputs[0]};
  return graph;
}

Graph without_head(Graph graph) {
  check(!graph.stages.empty(), "graph: has no stages whose maps it could give");
  graph.outputs = graph.stages;
  return graph;
}

double count_macs(const Graph& graph, const std::vector<Shape>& shapes) {
  double sum = 0;
  for (ValueId i = 1; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    sum += std::visit(MacsOf{shapes[node.inputs.front()], shapes[node.inputs.back()], shapes[i]},
                      node.op);
  }
  return sum;
}

Shape infer_shape(const Graph& graph, ValueId value, const std::vector<Shape>& shapes,
                  const Shape& input) {
  const Node& node = graph.nodes[value];
  try {
    return std::visit(ShapeOf{shapes, node, input}, node.op);
  } catch (const ArgumentError& error) {
    throw ArgumentError(node.name + ": " + error.what());
  }
}

std::vector<Shape> infer_shapes(const Graph& graph, const Shape& input) {
  check(input.rank() == 4, "x: shape is {}, expected [N, C, H, W]", to_string(input));
  std::vector<Shape> shapes;
  shapes.reserve(graph.nodes.size());
  for (ValueId i = 0; i < graph.nodes.size(); ++i) {
    shapes.push_back(infer_shape(graph, i, shapes, input));
  }
  return shapes;
}

}  // namespace sepconv
