// Images of other sizes.

#include <fmt/format.h>

#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// A text attribute's value by a table of those that are supported.
template <class T>
T named(const OnnxNode& node, const char* name, const char* otherwise,
        const std::map<std::string, T>& table) {
  const std::string text = text_of(node, name, otherwise);
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

// [N, C, L] as images of width 1.
Value of_lines(GraphBuilder& net, const OnnxNode& node, Values in) {
  View x = view(in[0]);
  x.dims.emplace_back();
  in[0] = x;
  for (const std::size_t i : {2U, 3U}) {
    const OnnxConstant list = constant(in, i);
    if (!list || list->size() != 3) continue;
    OnnxTensor longer = *list;
    longer.dims = {4};
    (longer.integer ? longer.integers.push_back(1) : longer.floats.push_back(1));
    in[i] = made(std::move(longer));
  }
  View y = view(import_resize(net, node, in).front());
  y.dims.pop_back();
  return y;
}

}  // namespace

Values import_resize(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (view(in[0]).dims.size() == 3) return {of_lines(net, node, in)};
  View x = net.image(in[0]);
  if (x.dims.size() != 4) throw Unsupported("of other than an image");
  if (net.shape(x).rank() == 2) {  // what a global pool has left
    x = net.add_view(node.name + ".pixel", ArrangeNode{x.dims}, {x.id});
  }
  ResizeNode n;
  n.how = resampling_of(node);
  Dims axes = list_of(node, "axes");
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

}  // namespace sepconv::importer
