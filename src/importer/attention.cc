// Attention as exporters take it apart, and the tokens around it.

#include <algorithm>
#include <cmath>
#include <set>

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

bool hides_all_keys(const AttentionScores& scores) {
  if (!scores.bias) return false;
  const std::vector<float>& bias = scores.bias->floats;
  const std::int64_t keys = std::max<std::int64_t>(scores.bias->dims.back(), 1);
  for (auto row = bias.begin(); row != bias.end(); row += keys) {
    if (std::all_of(row, row + keys, [](float v) { return v == -INFINITY; })) return true;
  }
  return false;
}

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
  return view(apply(import_add, net, node_of("Add", "bias"), {scores, e.bias}).front());
}

View weights_of(GraphBuilder& net, const AttentionWeights& e) {
  const View scores = scores_of(net, e.scores);
  View weights =
      net.add_same("weights", SoftmaxNode{}, net.matrices(scores, scores.dims.size() - 1));
  if (e.transposed) swap_last(weights);
  return weights;
}

namespace {

// [N, heads, tokens, depth], from that or [N, tokens, heads · depth].
View heads_apart(GraphBuilder& net, const OnnxNode& node, const Value& value, const char* heads) {
  View x = net.real(value);
  if (x.dims.size() == 4) return x;
  const std::int64_t count = integer_of(node, heads, 0);
  const Dims s = x.sizes();
  if (s.size() != 3 || count < 1 || s[2] % count != 0) throw Unsupported("of other than heads");
  return transposed(reshaped(x, {s[0], s[1], count, s[2] / count}), {0, 2, 1, 3});
}

// Which keys a query looks at by its place: those up to its own where attention is causal, those
// of a window around it.
struct Reach {
  std::int64_t left, right;  ///< −1: any

  explicit Reach(const OnnxNode& node)
      : left(integer_of(node, "left_window_size", -1)),
        right(integer_of(node, "right_window_size", -1)) {
    if (integer_of(node, "is_causal", 0) != 0) right = 0;
  }
  bool whole() const { return left < 0 && right < 0; }
  bool has(std::int64_t query, std::int64_t key) const {
    return (left < 0 || key >= query - left) && (right < 0 || key <= query + right);
  }
};

// What is added to scores [.., queries, keys]: a constant mask, and minus infinity where a query
// does not look; null if nothing.
OnnxConstant mask_of(const OnnxNode& node, const OnnxConstant& given, std::int64_t queries,
                     std::int64_t keys) {
  const Reach reach(node);
  if (!given && reach.whole()) return nullptr;
  OnnxTensor mask = given ? *given : like({queries, keys}, false);
  if (mask.integer) {  // whether a query looks at a key
    for (const std::int64_t looks : mask.integers) mask.floats.push_back(looks ? 0 : -INFINITY);
    mask.integer = false;
    mask.integers.clear();
  }
  mask = *expand(mask, broadcast(mask.dims, {queries, keys}));
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    if (!reach.has(at / keys % queries, at % keys)) mask.floats[i] = -INFINITY;
  }
  OnnxConstant all = made(std::move(mask));
  if (hides_all_keys({.queries = {}, .keys = {}, .scale = 1, .bias = all})) {
    throw Unsupported("of queries that look at no key");
  }
  return all;
}

void check_attributes(const OnnxNode& node) {
  static const std::set<std::string> known = {"is_causal",
                                              "kv_num_heads",
                                              "left_window_size",
                                              "q_num_heads",
                                              "qk_matmul_output_mode",
                                              "right_window_size",
                                              "scale",
                                              "softcap",
                                              "softmax_precision"};
  for (const auto& [name, value] : node.attributes) {
    if (!known.contains(name)) throw Unsupported("with " + name);
  }
  if (number_of(node, "softcap", 0) != 0) throw Unsupported("with softcap");
}

}  // namespace

// softmax(scale · q·kᵀ + mask)·v, by what the same in several nodes becomes.
Values import_attention(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const auto given = [&](std::size_t i) {
    return constant(in, i) || !std::holds_alternative<OnnxConstant>(in[i]);
  };
  if (given(4) || given(5) || given(6)) throw Unsupported("with a cache of keys and values");
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (!node.outputs[i].empty()) throw Unsupported("with more than one result");
  }
  check_attributes(node);
  const View q = heads_apart(net, node, in[0], "q_num_heads");
  View k = heads_apart(net, node, in[1], "kv_num_heads");
  View v = heads_apart(net, node, in[2], "kv_num_heads");
  const Dims queries = q.sizes(), keys = k.sizes();
  if (keys[1] < 1 || queries[1] % keys[1] != 0) throw Unsupported("of heads that do not fit");
  // Keys of one head are for all as they are.
  if (const std::int64_t share = queries[1] / keys[1]; share > 1 && keys[1] > 1) {
    k.dims[1].push_back({0, share, 0});
    v.dims[1].push_back({0, share, 0});
  }
  swap_last(k);
  const double depth = static_cast<double>(queries[3]);
  const bool scaled = node.attributes.contains("scale");
  const double scale =
      scaled ? static_cast<double>(number_of(node, "scale", 1)) : 1 / std::sqrt(depth);
  Value scores = apply(import_matmul, net, node, {View(q).times(scale), k}).front();
  if (given(3) && !constant(in, 3)) {
    scores = apply(import_add, net, node, {scores, in[3]}).front();
  }
  const OnnxConstant mask = mask_of(node, constant(in, 3), queries[2], keys[2]);
  if (mask) scores = apply(import_add, net, node, {scores, mask}).front();
  const OnnxNode softmax = node_of("Softmax", node.name);
  const Value weights = apply(import_softmax, net, softmax, {scores}).front();
  const View y = view(apply(import_matmul, net, node, {weights, v}).front());
  if (view(in[0]).dims.size() == 4) return {y};
  const Dims s = y.sizes();
  return {reshaped(transposed(y, {0, 2, 1, 3}), {s[0], s[2], s[1] * s[3]})};
}

bool takes_class_token(const GraphBuilder& net, const ClassTokens& e) {
  const View& x = e.of;
  const Shape& s = net.shape(x);
  const bool tokens = s.rank() == 4 && x.dims.size() == 3 && is_axis(x, 0, 0, s) &&
                      is_pixels(x, 1, s) && is_axis(x, 2, 1, s) && s[2] == s[3];
  const std::vector<float>& token = e.token->floats;
  const auto each = static_cast<std::ptrdiff_t>(s[1]);
  const bool whole =
      tokens && e.token->dims.size() == 3 && e.token->dims[1] == 1 && e.token->dims[2] == s[1];
  bool alike = whole && !token.empty();
  for (auto next = token.begin(); alike && next != token.end(); next += each) {
    alike = std::equal(next, next + each, token.begin());
  }
  return alike;
}

View class_tokens(GraphBuilder& net, const std::string& name, const ClassTokens& e,
                  const OnnxConstant& positions) {
  const View& x = e.of;
  const Shape& s = net.shape(x);
  const std::int64_t grid = s[2], channel = s[1];
  const OnnxConstant& token = e.token;
  const std::size_t count = to_size((grid * grid + 1) * channel);
  if (positions && positions->floats.size() != count) {
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
