#include <algorithm>
#include <optional>
#include <utility>

#include "graph/affine.h"
#include "graph/plan.h"
#include "ops/winograd_rows.h"

namespace sepconv {

namespace {

// What an affine function of each channel is as a convolution in as many groups as another one.
Conv2dNode diagonal(const Affine& affine, const Conv2dNode& like) {
  const std::int64_t channels = like.weight->shape()[0], each = like.weight->shape()[1];
  auto weight = std::make_shared<Tensor>(Shape{channels, each, 1, 1});
  auto bias = std::make_shared<Tensor>(Shape{channels});
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto at = static_cast<std::size_t>(c);
    weight->data()[c * each + c % each] = static_cast<float>(affine.scale[at]);
    bias->data()[c] = static_cast<float>(affine.shift[at]);
  }
  Conv2dNode conv;
  conv.weight = std::move(weight);
  conv.bias = std::move(bias);
  conv.groups = like.groups;
  return conv;
}

// A sum's two inputs, and how often each value is read.
struct Sum {
  const Graph& graph;
  const std::vector<int>& uses;
  ValueId a, b;

  // An input that is a convolution and no more, and that this sum alone reads.
  const Conv2dNode* convolution(ValueId id) const {
    const auto* conv = std::get_if<Conv2dNode>(&graph.nodes[id].op);
    const bool plain = conv && conv->options.activation == Activation() &&
                       !conv->options.residual && !conv->scaled;
    return plain && uses[id] == 1 ? conv : nullptr;
  }

  // An input as a function of the value that the convolution reads: another convolution of it, its
  // norm or, as depthwise ones take no residual (fuse_residuals), itself.
  std::optional<Conv2dNode> other_branch(ValueId id, ValueId of, const Conv2dNode& beside) const {
    const Node& node = graph.nodes[id];
    const bool same_channels =
        beside.weight->shape()[0] == beside.weight->shape()[1] * beside.groups;
    if (id == of && is_depthwise(beside) && same_channels) {
      const auto channels = static_cast<std::size_t>(beside.weight->shape()[0]);
      return diagonal(Affine(channels), beside);
    }
    if (id == of || node.inputs.empty() || node.inputs[0] != of || uses[id] != 1) {
      return std::nullopt;
    }
    const auto* norm = std::get_if<BatchNormNode>(&node.op);
    if (norm && norm->activation == Activation() && same_channels) {
      return diagonal(Affine(*norm), beside);
    }
    const Conv2dNode* conv = convolution(id);
    return conv ? std::optional(*conv) : std::nullopt;
  }
};

Window2d window_of(const Conv2dNode& conv) {
  const Shape& w = conv.weight->shape();
  const Conv2dOptions& o = conv.options;
  return {{w[2], o.stride.height, o.dilation.height, o.padding.top},
          {w[3], o.stride.width, o.dilation.width, o.padding.left}};
}

// Where the first tap of a smaller window lies in a larger one, if all its taps lie on that one's.
struct Place {
  std::int64_t row, column;
};

std::optional<std::int64_t> place_along(const Window& small, const Window& large) {
  const std::int64_t ahead = large.pad - small.pad, place = ahead / large.dilation;
  const bool on_taps = ahead >= 0 && ahead % large.dilation == 0 &&
                       (small.size == 1 || small.dilation == large.dilation);
  const bool fits = on_taps && small.stride == large.stride && place + small.size <= large.size;
  return fits ? std::optional(place) : std::nullopt;
}

std::optional<Place> place_in(const Conv2dNode& small, const Conv2dNode& large) {
  const Shape &s = small.weight->shape(), &l = large.weight->shape();
  const bool same_maps = s[0] == l[0] && s[1] == l[1] && small.groups == large.groups;
  if (!same_maps || small.same_padding || large.same_padding) return std::nullopt;
  const Window2d window = window_of(small), of = window_of(large);
  const auto row = place_along(window.rows, of.rows);
  const auto column = place_along(window.columns, of.columns);
  return row && column ? std::optional(Place{*row, *column}) : std::nullopt;
}

Constant sum_of_weights(const Tensor& small, const Tensor& large, Place place) {
  const Shape &s = small.shape(), &l = large.shape();
  auto sum = std::make_shared<Tensor>(l);
  std::copy_n(large.data(), l.elements(), sum->data());
  for (std::int64_t i = 0; i < s.elements(); ++i) {
    const std::int64_t map = i / (s[2] * s[3]), row = i / s[3] % s[2], column = i % s[3];
    sum->data()[(map * l[2] + place.row + row) * l[3] + place.column + column] += small.data()[i];
  }
  return sum;
}

Constant sum_of_biases(const Constant& a, const Constant& b) {
  if (!a || !b) return a ? a : b;
  auto sum = std::make_shared<Tensor>(a->shape());
  for (std::int64_t c = 0; c < a->shape()[0]; ++c) sum->data()[c] = a->data()[c] + b->data()[c];
  return sum;
}

// Where Winograd's algorithm may come, a single large weight among those that are summed up in a
// tile, as a norm's or a 1×1 window's, costs accuracy: RepVGG was at 1.6 to 2.2 times ONNX
// Runtime's error, and is at 1.3 to 1.6 with its branches apart.
bool stays_apart(const Conv2dNode& conv) {
  return WinogradRows::suits(window_of(conv), conv.groups);
}

// One convolution for two of the same value, where the window of one lies in the other's.
std::optional<Conv2dNode> merged(const Conv2dNode& a, const Conv2dNode& b) {
  for (const auto& [small, large] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    const auto place = place_in(*small, *large);
    if (!place || stays_apart(*large)) continue;
    Conv2dNode sum = *large;
    sum.weight = sum_of_weights(*small->weight, *large->weight, *place);
    sum.bias = sum_of_biases(small->bias, large->bias);
    return sum;
  }
  return std::nullopt;
}

// The convolution that a sum is, and the value that it reads.
std::optional<std::pair<Conv2dNode, ValueId>> as_convolution(const Sum& sum) {
  for (const auto& [first, second] : {std::pair(sum.a, sum.b), std::pair(sum.b, sum.a)}) {
    const Conv2dNode* conv = sum.convolution(first);
    if (!conv) continue;
    const ValueId of = sum.graph.nodes[first].inputs[0];
    const auto other = sum.other_branch(second, of, *conv);
    const auto both = other ? merged(*conv, *other) : std::nullopt;
    if (both) return std::pair(*both, of);
  }
  return std::nullopt;
}

}  // namespace

bool merge_sums(Graph& graph) {
  bool found = false;
  const std::vector<int> uses = count_uses(graph);
  for (Node& node : graph.nodes) {
    const auto* add = std::get_if<AddNode>(&node.op);
    if (!add || node.inputs[0] == node.inputs[1]) continue;
    auto conv = as_convolution({graph, uses, node.inputs[0], node.inputs[1]});
    if (!conv) continue;
    conv->first.options.activation = add->activation;
    node.op = std::move(conv->first);
    node.inputs = {conv->second};
    found = true;
  }
  remove_unused(graph);
  return found;
}

}  // namespace sepconv
