// What no view can say of a value is copied into one that lies so.

#include <algorithm>

#include "base/check.h"
#include "base/sizes.h"
#include "importer/builder.h"

namespace sepconv::importer {

View GraphBuilder::copied(const View& x, const Axes& axes, Axes dims,
                          std::array<std::int64_t, 4> first) {
  if (x.partial) first[1] += x.first;
  const auto same = [&](const Copy& c) {
    return c.of == x.id && c.first == first && c.axes == axes;
  };
  auto known = std::find_if(copies_.begin(), copies_.end(), same);
  if (known == copies_.end()) {
    const ValueId id = add("copy", ArrangeNode{axes, true, first}, {x.id});
    known = copies_.insert(copies_.end(), {x.id, first, axes, id});
  }
  View y{known->copy, std::move(dims)};
  y.scale = x.scale;
  y.shift = x.shift;
  return real(y);
}

View GraphBuilder::matrices(const Value& value, std::size_t columns, bool keeps_images) {
  std::vector<bool> these(view(value).dims.size(), false);
  these[columns] = true;
  return matrices(value, these, keeps_images);
}

View GraphBuilder::matrices(const Value& value, const std::vector<bool>& columns,
                            bool keeps_images) {
  std::vector<int> places(columns.size(), 2);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i]) places[i] = 1;
  }
  return placed(value, places, keeps_images);
}

View GraphBuilder::placed(const Value& value, const std::vector<int>& places, bool keeps_images) {
  const View& x = view(value);
  Axes axes(4), dims(x.dims.size());
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    bool images = keeps_images && i == 0 && places[i] != 1;
    for (const Axis& a : x.dims[i]) {
      images = images && a.axis == 0 && a.step > 0;
      const int axis = images ? 0 : places[i];
      axes[to_size(axis)].push_back(a);
      dims[i].push_back({axis, a.size});
    }
  }
  std::array<std::int64_t, 4> sizes{1, 1, 1, 1};
  for (std::size_t i = dims.size(); i-- > 0; join(dims[i])) {
    for (std::size_t j = dims[i].size(); j-- > 0;) {
      Axis& a = dims[i][j];
      a.step = sizes[to_size(a.axis)];
      sizes[to_size(a.axis)] *= a.size;
    }
  }
  const bool lies_so =
      !x.partial && dims == x.dims && shape(x) == Shape({sizes[0], sizes[1], sizes[2], sizes[3]});
  return lies_so ? real(x) : copied(x, axes, std::move(dims));
}

View GraphBuilder::four_dimensions(const View& x) {
  if (x.dims.size() != 4) throw Unsupported("of something that is no [N, C, H, W]");
  const Dims s = x.sizes();
  const View whole = whole_view(x.id, {s[0], s[1], s[2], s[3]});
  return copied(x, x.dims, whole.dims);
}

View GraphBuilder::flat(const View& x) {
  Axes axes(4);
  for (const std::vector<Axis>& each : x.dims) {
    axes[1].insert(axes[1].end(), each.begin(), each.end());
  }
  const Dims sizes = x.sizes();
  View y = copied(x, axes, {});
  if (const std::int64_t all = shape(y).elements(); all > 1) y.dims = {{{1, all}}};
  return reshaped(y, sizes);
}

View GraphBuilder::laid_out_as(const Value& value, const View& like) {
  View y = view(value);
  if (y.dims.size() > like.dims.size()) throw Unsupported("of values of different shapes");
  y.dims.insert(y.dims.begin(), like.dims.size() - y.dims.size(), std::vector<Axis>());
  if (!y.partial && y.dims == like.dims && shape(y) == shape(like)) return real(y);
  struct Piece {
    Axis at;  ///< in `like`
    std::vector<Axis> from;
  };
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < like.dims.size(); ++i) {
    if (size_of(y.dims[i]) == 1) {
      for (const Axis& a : like.dims[i]) pieces.push_back({a, {{0, a.size, 0}}});
      continue;
    }
    View dim = y;
    dim.dims = {y.dims[i]};
    Dims sizes;
    for (const Axis& a : like.dims[i]) sizes.push_back(a.size);
    if (size_of(y.dims[i]) != size_of(like.dims[i])) {
      throw Unsupported("of values of different shapes");
    }
    dim = reshaped(dim, sizes);
    for (std::size_t j = 0; j < sizes.size(); ++j) {
      pieces.push_back({like.dims[i][j], dim.dims[j]});
    }
  }
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Piece& a, const Piece& b) { return a.at.step > b.at.step; });
  Axes axes(4);
  for (const Piece& p : pieces) {
    std::vector<Axis>& to = axes[to_size(p.at.axis)];
    to.insert(to.end(), p.from.begin(), p.from.end());
  }
  y = copied(y, axes, like.dims);
  if (shape(like).rank() == 2) y.id = as_vector(y, "vector");
  return y;
}

std::optional<ValueId> GraphBuilder::by_channels_of(const View& x, const Value& value) {
  const Dims sizes = view(value).sizes();
  if (shape(x).rank() != 4 || sizes.size() != x.dims.size()) return std::nullopt;
  View pooled = x;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    std::erase_if(pooled.dims[i], [](const Axis& a) { return a.axis > 1; });
    if (size_of(pooled.dims[i]) != sizes[i]) return std::nullopt;
  }
  return as_vector(laid_out_as(value, pooled), "factors");
}

View GraphBuilder::cropped(const Value& value, std::size_t dim, std::int64_t first,
                           std::int64_t count) {
  View x = real(value);
  const Shape& s = shape(x);
  const bool whole = s.rank() == 4 && x.dims[dim].size() == 1 && x.dims[dim][0].axis >= 2 &&
                     is_axis(x, dim, x.dims[dim][0].axis, s);
  if (!whole) return part_of_channels(matrices(x, dim), dim, first, count);
  const int axis = x.dims[dim][0].axis;
  Axes axes = whole_view(x.id, s).dims;
  axes[to_size(axis)] = {{axis, count}};
  std::array<std::int64_t, 4> from{};
  from[to_size(axis)] = first;
  x.dims[dim] = single_axis(axis, count);
  return copied(x, axes, x.dims, from);
}

View GraphBuilder::expanded(const Value& value, const Dims& sizes) {
  View x = view(value);
  if (x.sizes() == sizes) return x;
  if (sizes.size() < x.dims.size()) throw Unsupported("to fewer dimensions");
  for (std::int64_t all = 1; const std::int64_t size : sizes) {
    all = checked_multiply(all, std::max<std::int64_t>(size, 1), "expand");
  }
  x.dims.insert(x.dims.begin(), sizes.size() - x.dims.size(), std::vector<Axis>());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (size_of(x.dims[i]) == sizes[i]) continue;
    if (size_of(x.dims[i]) != 1) throw Unsupported("of values of different shapes");
    x.dims[i] = {{0, sizes[i], 0}};
  }
  // Repeated elements may be any but images of their own.
  return matrices(x, x.dims.size() - 1);
}

View GraphBuilder::constant_view(const std::string& name, const OnnxTensor& constant) {
  if (constant.integer || constant.floats.empty()) throw Unsupported("of a constant");
  const Dims& dims = constant.dims;
  const auto first = constant.floats.begin();
  const auto all = static_cast<std::int64_t>(constant.size());
  const std::int64_t images = input[0];
  // Where it has as many images, and they are alike: those of the value.
  const bool by_image = dims.size() > 1 && dims[0] == images &&
                        std::equal(first + all / images, constant.floats.end(), first);
  const std::int64_t each = by_image ? all / images : all;
  // The last dimension is the channels, the others are rows.
  const std::int64_t channels = dims.empty() ? 1 : dims.back(), rows = each / channels;
  auto map = std::make_shared<Tensor>(Shape{channels, rows, 1});
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t r = 0; r < rows; ++r) {
      map->data()[c * rows + r] = constant.floats[to_size(r * channels + c)];
    }
  }
  View x{add(name, ConstantNode{std::move(map)}, {0}), {}};
  x.dims = {single_axis(0, by_image ? images : 1), single_axis(2, rows), single_axis(1, channels)};
  // Or else one for all images, which only a copy is.
  return reshaped(by_image || images == 1 ? x : matrices(x, 2), dims);
}

}  // namespace sepconv::importer
