#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/sizes.h"
#include "models/onnx_constants.h"
#include "models/onnx_import.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;

Values import_same(OnnxImport&, const OnnxNode&, const Values& in) { return {in[0]}; }

Values import_dropout(OnnxImport&, const OnnxNode&, const Values& in) {
  const bool given = constant(in, 2) || !std::holds_alternative<OnnxConstant>(in[2]);
  if (given && scalar(in[2]) != 0.0) throw Unsupported("in training mode");
  return {in[0]};
}

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

// For products with something of that size, which broadcast anyway.
Values import_expand(OnnxImport&, const OnnxNode&, const Values& in) {
  const View& x = view(in[0]);
  const OnnxConstant to = constant(in, 1);
  if (!to) throw Unsupported("to a shape that is no constant");
  const Dims sizes = broadcast(x.sizes(), to->integers);
  if (sizes == x.sizes()) return {x};
  Expression e{.what = "an expanded value", .of = x};
  e.constants = {made({{static_cast<std::int64_t>(sizes.size())}, true, {}, sizes})};
  return {make(std::move(e))};
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

Values import_transpose(OnnxImport&, const OnnxNode& node, const Values& in) {
  if (const Expression* weights = expression(in[0], "attention weights")) {
    const auto rank = static_cast<std::int64_t>(weights->of.dims.size());
    Dims swapped(to_size(rank));
    std::iota(swapped.begin(), swapped.end(), 0);
    if (rank >= 2) std::swap(swapped[to_size(rank - 1)], swapped[to_size(rank - 2)]);
    if (list_of(node, "perm", {}, 0) != swapped) throw Unsupported("of attention weights' heads");
    Expression turned = *weights;
    turned.what = "transposed attention weights";
    return {make(std::move(turned))};
  }
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

namespace {

// A text attribute's value by a table of those that are supported.
template <class T>
T named(const OnnxNode& node, const char* name, const char* otherwise,
        const std::map<std::string, T>& table) {
  const auto given = node.attributes.find(name);
  const std::string text = given == node.attributes.end() ? otherwise : given->second.text;
  const auto known = table.find(text);
  if (known == table.end()) throw Unsupported(fmt::format("with {} {}", name, text));
  return known->second;
}

Resampling resampling_of(const OnnxNode& node) {
  using R = Resampling;
  R how;
  how.mode = named<R::Mode>(
      node, "mode", "nearest",
      {{"nearest", R::Mode::kNearest}, {"linear", R::Mode::kLinear}, {"cubic", R::Mode::kCubic}});
  how.coordinates =
      named<R::Coordinates>(node, "coordinate_transformation_mode", "half_pixel",
                            {{"half_pixel", R::Coordinates::kHalfPixel},
                             {"pytorch_half_pixel", R::Coordinates::kPytorchHalfPixel},
                             {"half_pixel_symmetric", R::Coordinates::kSymmetric},
                             {"align_corners", R::Coordinates::kAlignCorners},
                             {"asymmetric", R::Coordinates::kAsymmetric}});
  how.nearest = named<R::Nearest>(node, "nearest_mode", "round_prefer_floor",
                                  {{"round_prefer_floor", R::Nearest::kRoundPreferFloor},
                                   {"round_prefer_ceil", R::Nearest::kRoundPreferCeil},
                                   {"floor", R::Nearest::kFloor},
                                   {"ceil", R::Nearest::kCeil}});
  how.cubic_coefficient = static_cast<double>(number_of(node, "cubic_coeff_a", -0.75F));
  how.exclude_outside = integer_of(node, "exclude_outside", 0) != 0;
  named<bool>(node, "keep_aspect_ratio_policy", "stretch", {{"stretch", true}});
  if (integer_of(node, "antialias", 0) != 0) throw Unsupported("with antialias");
  return how;
}

// Values for height and width of a list that has one for each axis of `axes`; those of other axes
// must be as they are.
template <class T>
std::pair<T, T> height_width(const std::vector<T>& list, const Dims& axes, const Dims& same) {
  std::pair<T, T> found{static_cast<T>(same[2]), static_cast<T>(same[3])};
  if (list.size() != axes.size()) throw Unsupported("by a list of another length");
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::size_t axis = axis_of(axes[i], 4);
    if (axis >= 2) {
      (axis == 2 ? found.first : found.second) = list[i];
    } else if (list[i] != static_cast<T>(same[axis])) {
      throw Unsupported("of other than height and width");
    }
  }
  return found;
}

}  // namespace

Values import_resize(OnnxImport& net, const OnnxNode& node, const Values& in) {
  View x = net.image(in[0]);
  if (x.dims.size() != 4) throw Unsupported("of other than an image");
  if (net.shape(x).rank() == 2) {  // what a global pool has left
    x = net.add_view(node.name + ".pixel", ArrangeNode{x.dims}, {x.id});
  }
  ResizeNode n;
  n.how = resampling_of(node);
  Dims axes = list_of(node, "axes", {}, 0);
  if (axes.empty()) axes = {0, 1, 2, 3};
  const OnnxConstant scales = constant(in, 2), sizes = constant(in, 3);
  if (sizes && sizes->integer && sizes->size() > 0) {
    const auto [height, width] = height_width(sizes->integers, axes, x.sizes());
    if (height < 1 || width < 1) throw Unsupported("to nothing");
    n.size = {height, width};
  } else {
    const auto [height, width] = height_width(floats(in, 2, "scales"), axes, {1, 1, 1, 1});
    if (!(height > 0) || !(width > 0)) throw Unsupported("to nothing");
    n.scale_height = static_cast<double>(height);
    n.scale_width = static_cast<double>(width);
  }
  return {net.add_view(node.name, n, {x.id})};
}

}  // namespace sepconv::models
