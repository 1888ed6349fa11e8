// Attention as exporters take it apart, and the tokens around it.

#include <algorithm>

#include "base/sizes.h"
#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// What of [N, heads, tokens, depth] is where: the channels, how many heads there are (one where
// that dimension has size 1 or is not there), and which pixels are a window's tokens. With
// `transposed` the last two dimensions change places.
struct Heads {
  HeadChannels channels;
  std::int64_t count = 1;
  AttentionWindow window = {};
};

// The one factor of an axis, of size 1 where there is none.
Axis factor_of(const std::vector<Axis>& axes, int axis) {
  Axis factor{axis, 1};
  int count = 0;
  for (const Axis& a : axes) {
    if (a.axis != axis) continue;
    factor = a;
    ++count;
  }
  if (count > 1) throw Unsupported("of windows within windows");
  return factor;
}

// Tokens are all pixels, row by row, or those of windows; `leading` has images and windows.
AttentionWindow window_of(const Shape& shape, const std::vector<Axis>& tokens,
                          const std::vector<Axis>& leading) {
  bool adjacent = true, dilated = true, rows_first = true;
  std::int64_t sizes[2];
  for (const int axis : {2, 3}) {
    const Axis token = factor_of(tokens, axis), group = factor_of(leading, axis);
    const bool all = token.size * group.size == shape[axis];
    adjacent = adjacent && all && (group.size == 1 || group.step == token.size);
    dilated = dilated && all && (token.size == 1 || token.step == group.size);
    sizes[axis - 2] = token.size;
  }
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    rows_first = rows_first && tokens[i].axis < tokens[i + 1].axis;
  }
  const bool channels =
      std::any_of(tokens.begin(), tokens.end(), [](Axis a) { return a.axis < 2; });
  if ((!adjacent && !dilated) || !rows_first || channels) {
    throw Unsupported("of two values that are no queries and keys");
  }
  if (sizes[0] * sizes[1] == shape[2] * shape[3]) return {};
  return {{sizes[0], sizes[1]}, !adjacent};
}

Heads heads_of(const GraphBuilder& net, const View& v, bool transposed) {
  const Shape& shape = net.shape(v);
  const std::size_t rank = v.dims.size();
  if (rank < 3 || shape.rank() != 4 || v.shift != 0) throw Unsupported("of two values");
  const std::vector<Axis>& depth = v.dims[transposed ? rank - 2 : rank - 1];
  if (depth.size() > 1 || (!depth.empty() && depth[0] != Axis{1, depth[0].size})) {
    throw Unsupported("of two values that are no queries and keys");
  }
  Heads heads{{v.first, 0, depth.empty() ? 1 : depth[0].size}};
  std::vector<Axis> leading;  // images and windows
  for (std::size_t i = 0; i + 2 < rank; ++i) {
    for (const Axis& axis : v.dims[i]) {
      if (axis.axis != 1) {
        leading.push_back(axis);
      } else if (heads.count == 1) {
        heads.channels.step = axis.step;
        heads.count = axis.size;
      } else {
        throw Unsupported("of heads that are not evenly spaced");
      }
    }
  }
  heads.window = window_of(shape, v.dims[transposed ? rank - 1 : rank - 2], leading);
  return heads;
}

// Whether a dimension of keys or values goes along with the queries': the same images and windows,
// and as many heads, in one order; or none, for all heads.
bool go_along(const std::vector<Axis>& part, const std::vector<Axis>& queries) {
  if (part.empty() && queries.size() == 1 && queries[0].axis == 1) return true;
  const auto same = [](const Axis& a, const Axis& b) {
    return a == b || (a.axis == 1 && b.axis == 1 && a.size == b.size);
  };
  return std::equal(part.begin(), part.end(), queries.begin(), queries.end(), same);
}

// Whether images, windows and heads of `part` meet the same ones of the queries when the two are
// multiplied.
bool meets(const GraphBuilder& net, const View& part, bool transposed, const View& queries) {
  const Heads p = heads_of(net, part, transposed), q = heads_of(net, queries, false);
  const Shape &of_part = net.shape(part), &of_queries = net.shape(queries);
  bool all = part.dims.size() <= queries.dims.size() && p.window == q.window;
  if (!p.window.whole()) all = all && of_part[2] == of_queries[2] && of_part[3] == of_queries[3];
  for (std::size_t i = 3; all && i <= queries.dims.size(); ++i) {
    const std::size_t at = queries.dims.size() - i;
    const bool has = i <= part.dims.size();
    all = go_along(has ? part.dims[part.dims.size() - i] : std::vector<Axis>(), queries.dims[at]);
  }
  return all;
}

}  // namespace

Value attention_scores(const GraphBuilder& net, const View& q, const View& k) {
  if (!meets(net, k, true, q)) throw Unsupported("of two values");
  return waiting(AttentionScores{q, k, q.scale * k.scale});
}

Value scaled_scores(const AttentionScores& scores, double by) {
  if (scores.bias) throw Unsupported("of scores that something was added to");
  return waiting(AttentionScores{scores.queries, scores.keys, scores.scale * by});
}

// To [heads, queries, keys].
Value biased_scores(const GraphBuilder& net, const AttentionScores& scores,
                    const OnnxConstant& by) {
  const std::int64_t heads = heads_of(net, scores.queries, false).count;
  const Dims q = scores.queries.sizes(), k = scores.keys.sizes();
  const Dims to{heads, q[q.size() - 2], k.back()};
  OnnxTensor each = *by;
  while (each.dims.size() > 3 && each.dims[0] == 1) each.dims.erase(each.dims.begin());
  if (each.dims.size() == 3 && each.dims[0] > 1) {
    const std::vector<Axis>& of_heads = scores.queries.dims[q.size() - 3];
    if (of_heads.size() != 1 || of_heads[0].axis != 1) throw Unsupported("of scores by window");
  }
  OnnxConstant bias = expand(each, to);
  if (scores.bias || each.integer || bias->dims != to) {
    throw Unsupported("of scores and a constant of another shape");
  }
  return waiting(AttentionScores{scores.queries, scores.keys, scores.scale, std::move(bias)});
}

View attend(GraphBuilder& net, const OnnxNode& node, const AttentionScores& scores, const View& v) {
  const Heads queries = heads_of(net, scores.queries, false);
  const Heads keys = heads_of(net, scores.keys, true), values = heads_of(net, v, false);
  if (!meets(net, v, false, scores.queries)) throw Unsupported("of two values");
  AttentionNode n{{.heads = queries.count,
                   .q = queries.channels,
                   .k = keys.channels,
                   .v = values.channels,
                   .scale = scores.scale},
                  nullptr,
                  queries.window};
  if (const OnnxConstant& bias = scores.bias) {
    n.bias = tensor_of({bias->dims[0], bias->dims[1], bias->dims[2]}, bias->floats);
  }
  View y{net.add(node.name, std::move(n), {scores.queries.id, scores.keys.id, v.id}),
         scores.queries.dims};
  y.scale = v.scale;
  for (std::vector<Axis>& axes : y.dims) {
    for (Axis& axis : axes) {
      if (axis.axis == 1) axis = {1, queries.count, values.channels.count};
    }
  }
  y.dims.back() = single_axis(1, values.channels.count);
  return y;
}

View scores_of(GraphBuilder& net, const AttentionScores& e) {
  View q = e.queries, k = e.keys;
  q.scale = k.scale = 1;  // in the scores' own
  View scores = matrix_product(net, "scores", q, k);
  scores.scale = e.scale;
  if (!e.bias) return scores;
  scores = net.real(scores);
  Constant map = net.map_for(scores, e.bias);
  if (!map) throw Unsupported("of scores and a constant of another shape");
  return net.add_same("bias", AddMapNode{std::move(map)}, scores);
}

View weights_of(GraphBuilder& net, const AttentionWeights& e) {
  const View scores = scores_of(net, e.scores);
  View weights =
      net.add_same("weights", SoftmaxNode{}, net.matrices(scores, scores.dims.size() - 1));
  if (e.transposed) swap_last(weights);
  return weights;
}

namespace {

View element(GraphBuilder& net, const OnnxNode& node, const View& x, std::size_t axis,
             std::int64_t index) {
  if (is_tokens(x, net.shape(x)) && axis == 1 && index == 0) {
    return net.add_view(node.name, FirstTokenNode{}, {net.real(x).id});
  }
  if (size_of(x.dims[axis]) == 1) {
    View y = x;
    y.dims.erase(y.dims.begin() + static_cast<std::ptrdiff_t>(axis));
    return y;
  }
  const std::size_t place = axis_of(index, to_size(x.sizes()[axis]));
  const std::vector<Axis>& axes = x.dims[axis];
  const bool channels = axes.size() == 1 && axes[0].axis == 1;
  const auto first = static_cast<std::int64_t>(place);
  View y = channels ? part_of_channels(x, axis, first, 1) : net.cropped(x, axis, first, 1);
  y.dims.erase(y.dims.begin() + static_cast<std::ptrdiff_t>(axis));
  return y;
}

}  // namespace

Values import_gather(GraphBuilder& net, const OnnxNode& node, const Values& in) {
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

View class_tokens(GraphBuilder& net, const std::string& name, const ClassTokens& e,
                  const OnnxConstant& positions) {
  const View& x = e.of;
  const Shape& s = net.shape(x);
  const bool tokens = x.dims.size() == 3 && is_axis(x, 0, 0, s) && is_axis(x, 2, 1, s);
  const View pixels = reshaped(whole_view(x.id, s), {s[0], s[1], s[2] * s[3]});
  const std::int64_t grid = s[2], channel = s[1];
  if (!tokens || x.dims[1] != pixels.dims[2] || s[2] != s[3]) {
    throw Unsupported("of other than the pixels of a square image");
  }
  const OnnxConstant& token = e.token;
  const std::size_t count = to_size((grid * grid + 1) * channel);
  const bool fits = !positions || positions->floats.size() == count;
  if (!fits || !token || token->floats.size() < to_size(channel)) {
    throw Unsupported("of a class token with other positions");
  }
  ClassTokensNode n;
  n.token = vector_of({token->floats.begin(), token->floats.begin() + channel});
  n.positions =
      tensor_of({grid * grid + 1, channel}, positions ? positions->floats : Floats(count, 0));
  n.grid = grid;
  View y{net.add(name, std::move(n), {x.id}), {}};
  const View all = whole_view(y.id, net.shape(y));
  y.dims = {all.dims[0], all.dims[2], all.dims[1]};
  return y;
}

}  // namespace sepconv::importer
