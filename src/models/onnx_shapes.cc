#include <algorithm>

#include "base/check.h"
#include "base/sizes.h"

#include "models/onnx_import.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;

Values import_same(OnnxImport&, const OnnxNode&, const Values& in) { return {in[0]}; }

Values import_cast(OnnxImport&, const OnnxNode& node, const Values& in) {
  constexpr std::int64_t kFloat = 1, kDouble = 11;
  const std::int64_t to = integer_of(node, "to", kFloat);
  if (to != kFloat && to != kDouble) throw Unsupported("to a narrower type");
  return {in[0]};
}

Values import_shape(OnnxImport&, const OnnxNode& node, const Values& in) {
  const Expression* part = expression(in[0], "a part of the channels");
  const View& x = part ? part->of : view(in[0]);
  Dims sizes = x.sizes();
  if (part) sizes[1] = part->count;
  const auto rank = static_cast<std::int64_t>(sizes.size());
  if (x.padding != Padding(0)) throw Unsupported("of padded values");
  const auto position = [rank](std::int64_t p) {
    return static_cast<std::ptrdiff_t>(std::clamp<std::int64_t>(p < 0 ? p + rank : p, 0, rank));
  };
  const auto begin = position(integer_of(node, "start", 0));
  const auto end = std::max(begin, position(integer_of(node, "end", rank)));
  auto result = std::make_shared<io::OnnxTensor>();
  result->integer = true;
  result->integers.assign(sizes.begin() + begin, sizes.begin() + end);
  result->dims = {end - begin};
  return {OnnxConstant(result)};
}

Values import_reshape(OnnxImport&, const OnnxNode&, const Values& in) {
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
  if (x.padding != Padding(0)) throw Unsupported("of padded values");
  return {reshaped(x, to)};
}

Values import_flatten(OnnxImport&, const OnnxNode& node, const Values& in) {
  const View& x = view(in[0]);
  const Dims sizes = x.sizes();
  const std::int64_t rank = static_cast<std::int64_t>(sizes.size());
  const std::int64_t axis = integer_of(node, "axis", 1);
  const auto split = to_size(std::clamp<std::int64_t>(axis < 0 ? axis + rank : axis, 0, rank));
  Dims to{1, 1};
  for (std::size_t i = 0; i < sizes.size(); ++i) to[i < split ? 0 : 1] *= sizes[i];
  return {reshaped(x, to)};
}

Values import_squeeze(OnnxImport&, const OnnxNode& node, const Values& in) {
  View x = view(in[0]);
  const Dims axes = list_of(node, "axes", {OnnxConstant(), constant(in, 1)}, 1);
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

Values import_unsqueeze(OnnxImport&, const OnnxNode& node, const Values& in) {
  const View& x = view(in[0]);
  const Dims axes = list_of(node, "axes", {OnnxConstant(), constant(in, 1)}, 1);
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

Values import_transpose(OnnxImport&, const OnnxNode& node, const Values& in) {
  if (view(in[0]).padding != Padding(0)) throw Unsupported("of padded values");
  return {transposed(view(in[0]), list_of(node, "perm", {}, 0))};
}

Values import_pad(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const auto mode = node.attributes.find("mode");
  if (mode != node.attributes.end() && mode->second.text != "constant") {
    throw Unsupported("by other than a constant");
  }
  if (constant(in, 3)) throw Unsupported("with axes");
  const OnnxConstant given = constant(in, 1);
  if (!given) throw Unsupported("by amounts that are no constant");
  const Dims& p = given->integers;
  const bool none = std::all_of(p.begin(), p.end(), [](std::int64_t v) { return v == 0; });
  if (none) return {in[0]};
  const float with = static_cast<float>(in.size() > 2 ? scalar(in[2]).value_or(0) : 0);
  if (p.size() != 8 || p[0] + p[1] + p[4] + p[5] != 0 || std::min({p[2], p[3], p[6], p[7]}) < 0) {
    throw Unsupported("of other than height and width");
  }
  const Padding amount{p[2], p[6], p[3], p[7]};
  if (const Expression* part = expression(in[0], "a part of the channels")) {
    Expression padded = *part;
    if (with != 0) throw Unsupported("of a part by other than 0");
    padded.of.padding = amount;
    return {make(std::move(padded))};
  }
  View x = net.real(in[0]);
  if (!is_image(x, net.shape(x))) throw Unsupported("of something that is no [N, C, H, W]");
  x.padding = amount;
  x.padded_with = with;
  return {x};
}

}  // namespace sepconv::models
