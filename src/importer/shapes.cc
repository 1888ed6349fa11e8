// What only changes the view of a value.

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/sizes.h"
#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

Values import_same(GraphBuilder&, const OnnxNode&, const Values& in) { return {in[0]}; }

Values import_dropout(GraphBuilder&, const OnnxNode&, const Values& in) {
  const bool given = constant(in, 2) || !std::holds_alternative<OnnxConstant>(in[2]);
  if (given && scalar(in[2]) != 0.0) throw Unsupported("in training mode");
  return {in[0]};
}

Values import_cast(GraphBuilder&, const OnnxNode& node, const Values& in) {
  constexpr std::int64_t kFloat = 1, kDouble = 11;
  const std::int64_t to = integer_of(node, "to", kFloat);
  if (to != kFloat && to != kDouble) throw Unsupported("to a narrower type");
  return {in[0]};
}

Values import_shape(GraphBuilder&, const OnnxNode& node, const Values& in) {
  const auto* part = expression<SomeChannels>(in[0]);
  const View& x = part ? part->of : view(in[0]);
  Dims sizes = x.sizes();
  if (part) sizes[1] = part->count;
  const auto rank = static_cast<std::int64_t>(sizes.size());
  const auto position = [rank](std::int64_t p) {
    return static_cast<std::ptrdiff_t>(std::clamp<std::int64_t>(p < 0 ? p + rank : p, 0, rank));
  };
  const auto begin = position(integer_of(node, "start", 0));
  const auto end = std::max(begin, position(integer_of(node, "end", rank)));
  auto result = std::make_shared<OnnxTensor>();
  result->integer = true;
  result->integers.assign(sizes.begin() + begin, sizes.begin() + end);
  result->dims = {end - begin};
  return {OnnxConstant(result)};
}

Values import_reshape(GraphBuilder& net, const OnnxNode&, const Values& in) {
  const View& x = view(in[0]);
  const OnnxConstant target = constant(in, 1);
  if (!target) throw Unsupported("to a shape that is no constant");
  const Dims sizes = x.sizes();
  Dims to = target->integers;
  std::int64_t all = 1, known = 1;
  for (const std::int64_t s : sizes) all *= s;
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (to[i] == 0 && i < sizes.size()) to[i] = sizes[i];
    if (to[i] > 0) known = checked_multiply(known, to[i], "reshape");
  }
  for (std::int64_t& t : to) t = t == -1 ? all / known : t;
  try {
    return {reshaped(x, to)};
  } catch (const Unsupported&) {
    return {reshaped(net.flat(x), to)};
  }
}

// For products with something of that size, which broadcast anyway.
Values import_expand(GraphBuilder&, const OnnxNode&, const Values& in) {
  const OnnxConstant to = constant(in, 1);
  if (!to) throw Unsupported("to a shape that is no constant");
  const auto* norms = expression<Norms>(in[0]);
  if (norms && norms->of.sizes() == to->integers) return {in[0]};  // which they will divide
  const View& x = view(in[0]);
  const Dims sizes = broadcast(x.sizes(), to->integers);
  if (sizes == x.sizes()) return {x};
  return {waiting(Expanded{x, sizes})};
}

Values import_tile(GraphBuilder& net, const OnnxNode&, const Values& in) {
  View x = net.real(in[0]);
  const OnnxConstant repeats = constant(in, 1);
  if (!repeats || !repeats->integer || repeats->size() != x.dims.size()) {
    throw Unsupported("by repeats that are no constants");
  }
  bool repeated = false;
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    const std::int64_t times = repeats->integers[i];
    if (times < 1) throw Unsupported("of nothing");
    if (times == 1) continue;
    checked_multiply(net.shape(x).elements(), times, "repeats");
    x.dims[i].insert(x.dims[i].begin(), {0, times, 0});
    repeated = true;
  }
  if (!repeated) return {x};
  return {net.matrices(x, x.dims.size() - 1)};
}

Values import_flatten(GraphBuilder&, const OnnxNode& node, const Values& in) {
  const View& x = view(in[0]);
  const Dims sizes = x.sizes();
  const std::int64_t rank = static_cast<std::int64_t>(sizes.size());
  const std::int64_t axis = integer_of(node, "axis", 1);
  const auto split = to_size(std::clamp<std::int64_t>(axis < 0 ? axis + rank : axis, 0, rank));
  Dims to{1, 1};
  for (std::size_t i = 0; i < sizes.size(); ++i) to[i < split ? 0 : 1] *= sizes[i];
  return {reshaped(x, to)};
}

Values import_squeeze(GraphBuilder&, const OnnxNode& node, const Values& in) {
  View x = view(in[0]);
  const Dims axes = list_of(node, "axes", constant(in, 1));
  std::vector<bool> gone(x.dims.size(), axes.empty());
  for (const std::int64_t a : axes) gone[axis_of(a, x.dims.size())] = true;
  View y = x;
  y.dims.clear();
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    if (gone[i] && !axes.empty() && !x.dims[i].empty()) throw Unsupported("of more than size 1");
    if (!gone[i] || !x.dims[i].empty()) y.dims.push_back(x.dims[i]);
  }
  return {y};
}

Values import_unsqueeze(GraphBuilder&, const OnnxNode& node, const Values& in) {
  const View& x = view(in[0]);
  const Dims axes = list_of(node, "axes", constant(in, 1));
  if (axes.empty()) throw Unsupported("without axes");
  const std::size_t rank = x.dims.size() + axes.size();
  std::vector<bool> is_new(rank, false);
  for (const std::int64_t a : axes) is_new[axis_of(a, rank)] = true;
  View y = x;
  y.dims.assign(rank, {});
  auto next = x.dims.begin();
  for (std::size_t i = 0; i < rank && next != x.dims.end(); ++i) {
    if (!is_new[i]) y.dims[i] = *next++;
  }
  return {y};
}

Values import_transpose(GraphBuilder&, const OnnxNode& node, const Values& in) {
  if (const auto* weights = expression<AttentionWeights>(in[0]); weights && !weights->transposed) {
    const auto rank = static_cast<std::int64_t>(weights->scores.queries.dims.size());
    Dims swapped(to_size(rank));
    std::iota(swapped.begin(), swapped.end(), 0);
    if (rank >= 2) std::swap(swapped[to_size(rank - 1)], swapped[to_size(rank - 2)]);
    if (list_of(node, "perm") != swapped) throw Unsupported("of attention weights' heads");
    return {waiting(AttentionWeights{weights->scores, true})};
  }
  return {transposed(view(in[0]), list_of(node, "perm"))};
}

namespace {

// Channels of blocks of pixels as pixels of their own, or those as channels.
Value regrouped(GraphBuilder& net, const Value& value, const Dims& apart, const Dims& order,
                const Dims& together) {
  return reshaped(transposed(reshaped(net.real(value), apart), order), together);
}

std::int64_t block_of(const OnnxNode& node, const Dims& sizes) {
  const std::int64_t block = integer_of(node, "blocksize", 0);
  constexpr std::int64_t kMost = 1 << 15;
  if (block < 1 || block > kMost || sizes.size() != 4)
    throw Unsupported("of other than blocks of an image");
  return block;
}

}  // namespace

Values import_depth_to_space(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const Dims s = view(in[0]).sizes();
  const std::int64_t b = block_of(node, s), c = s[1] / (b * b);
  const bool columns_first = text_of(node, "mode", "DCR") != "CRD";
  const Dims to{s[0], c, s[2] * b, s[3] * b};
  if (columns_first) {
    return {regrouped(net, in[0], {s[0], b, b, c, s[2], s[3]}, {0, 3, 4, 1, 5, 2}, to)};
  }
  return {regrouped(net, in[0], {s[0], c, b, b, s[2], s[3]}, {0, 1, 4, 2, 5, 3}, to)};
}

Values import_space_to_depth(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const Dims s = view(in[0]).sizes();
  const std::int64_t b = block_of(node, s);
  return {regrouped(net, in[0], {s[0], s[1], s[2] / b, b, s[3] / b, b}, {0, 3, 5, 1, 2, 4},
                    {s[0], s[1] * b * b, s[2] / b, s[3] / b})};
}

}  // namespace sepconv::importer
