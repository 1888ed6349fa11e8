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

Values import_reshape(OnnxImport& net, const OnnxNode&, const Values& in) {
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
Values import_expand(OnnxImport&, const OnnxNode&, const Values& in) {
  const OnnxConstant to = constant(in, 1);
  if (!to) throw Unsupported("to a shape that is no constant");
  for (const char* what : {"norms", "norms over positions"}) {
    const Expression* norms = expression(in[0], what);
    if (norms && norms->of.sizes() == to->integers) return {in[0]};  // which they will divide
  }
  const View& x = view(in[0]);
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
  return {transposed(view(in[0]), list_of(node, "perm", {}, 0))};
}

namespace {

// Channels of blocks of pixels as pixels of their own, or those as channels.
Value regrouped(OnnxImport& net, const Value& value, const Dims& apart, const Dims& order,
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

Values import_depth_to_space(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const Dims s = view(in[0]).sizes();
  const std::int64_t b = block_of(node, s), c = s[1] / (b * b);
  const auto mode = node.attributes.find("mode");
  const bool columns_first = mode == node.attributes.end() || mode->second.text != "CRD";
  const Dims to{s[0], c, s[2] * b, s[3] * b};
  if (columns_first) {
    return {regrouped(net, in[0], {s[0], b, b, c, s[2], s[3]}, {0, 3, 4, 1, 5, 2}, to)};
  }
  return {regrouped(net, in[0], {s[0], c, b, b, s[2], s[3]}, {0, 1, 4, 2, 5, 3}, to)};
}

Values import_space_to_depth(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const Dims s = view(in[0]).sizes();
  const std::int64_t b = block_of(node, s);
  return {regrouped(net, in[0], {s[0], s[1], s[2] / b, b, s[3] / b, b}, {0, 3, 5, 1, 2, 4},
                    {s[0], s[1] * b * b, s[2] / b, s[3] / b})};
}

namespace {

// Before and behind each dimension.
using Amounts = std::vector<std::pair<std::int64_t, std::int64_t>>;

bool is_none(const Amounts::value_type& a) { return a.first == 0 && a.second == 0; }

Amounts amounts_of(const Values& in, std::size_t rank) {
  const OnnxConstant given = constant(in, 1), axes = constant(in, 3);
  if (!given || !given->integer) throw Unsupported("by amounts that are no constant");
  const Dims& p = given->integers;
  std::vector<std::size_t> dims(rank);
  std::iota(dims.begin(), dims.end(), 0);
  if (axes) {
    dims.clear();
    for (const std::int64_t a : axes->integers) dims.push_back(axis_of(a, rank));
  }
  if (p.size() != 2 * dims.size()) throw Unsupported("by a list of another length");
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  for (const std::int64_t each : p) {
    if (each < -kMost || each > kMost) throw Unsupported("by more than 2^31");
  }
  Amounts amounts(rank);
  for (std::size_t i = 0; i < dims.size(); ++i) amounts[dims[i]] = {p[i], p[dims.size() + i]};
  return amounts;
}

PadMode pad_mode(const OnnxNode& node) {
  const auto mode = node.attributes.find("mode");
  const std::string text = mode == node.attributes.end() ? "constant" : mode->second.text;
  if (text == "reflect") return PadMode::kReflect;
  if (text == "edge") return PadMode::kEdge;
  if (text != "constant") throw Unsupported("by mode " + text);
  return PadMode::kConstant;
}

// Negative amounts take off.
View cropped(OnnxImport& net, View x, Amounts& amounts) {
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    auto& [before, after] = amounts[i];
    const std::int64_t first = std::max<std::int64_t>(-before, 0);
    const std::int64_t off = first + std::max<std::int64_t>(-after, 0);
    const std::int64_t size = x.sizes()[i];
    if (off >= size) throw Unsupported("of nothing");
    if (off > 0) x = net.real(net.cropped(x, i, first, size - off));
    before = std::max<std::int64_t>(before, 0);
    after = std::max<std::int64_t>(after, 0);
  }
  return x;
}

// One dimension after the other, as channels.
View pad_channels(OnnxImport& net, const std::string& name, View x, PadNode n,
                  const Amounts& amounts) {
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    if (is_none(amounts[i])) continue;
    const bool images = i == 0 && net.shape(x)[0] > 1;
    if (images || n.mode != PadMode::kConstant) throw Unsupported("of other than an image");
    if (net.shape(x).rank() != 4 || !is_axis(x, i, 1, net.shape(x))) x = net.matrices(x, i);
    n.channels_before = amounts[i].first;
    n.channels_after = amounts[i].second;
    x.id = net.add(name, n, {x.id});
    x.dims[i] = {{1, net.channels(x)}};
  }
  return x;
}

}  // namespace

Values import_pad(OnnxImport& net, const OnnxNode& node, const Values& in) {
  const Expression* part = expression(in[0], "a part of the channels");
  const std::size_t rank = part ? part->of.dims.size() : view(in[0]).dims.size();
  Amounts amounts = amounts_of(in, rank);
  if (std::all_of(amounts.begin(), amounts.end(), is_none)) return {in[0]};
  PadNode n;
  n.mode = pad_mode(node);
  n.value = static_cast<float>(scalar(in[2]).value_or(0));
  const View x = part ? part->of : cropped(net, net.real(in[0]), amounts);
  const bool plane = rank == 4 && is_none(amounts[0]) && is_none(amounts[1]);
  if (!plane && !part) return {pad_channels(net, node.name, x, n, amounts)};
  n.amount = {amounts[rank - 2].first, amounts[rank - 2].second, amounts[rank - 1].first,
              amounts[rank - 1].second};
  const Padding& p = n.amount;
  const bool waits = n.mode == PadMode::kConstant && is_image(x, net.shape(x));
  if (part) {
    const bool fits =
        plane && waits && n.value == 0 && std::min({p.top, p.bottom, p.left, p.right}) >= 0;
    if (!fits) throw Unsupported("of a part of the channels by other than zeros");
    Expression padded = *part;
    padded.of.padding = n.amount;
    return {make(std::move(padded))};
  }
  if (!waits) return {net.add_view(node.name, n, {net.image(x).id})};
  View padded = x;
  padded.padding = n.amount;
  padded.padded_with = n.value;
  return {padded};
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
