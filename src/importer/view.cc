#include "importer/view.h"

#include <algorithm>

#include "base/sizes.h"

namespace sepconv::importer {

std::vector<Axis> single_axis(int axis, std::int64_t size, std::int64_t step) {
  return size == 1 ? std::vector<Axis>() : std::vector<Axis>{{axis, size, step}};
}

std::int64_t size_of(const std::vector<Axis>& axes) {
  std::int64_t p = 1;
  for (const Axis& a : axes) p *= a.size;
  return p;
}

namespace {

// Takes axes from the front of `rest` until their sizes make `size`; splits one if it must.
std::vector<Axis> take(std::vector<Axis>& rest, std::int64_t size) {
  std::vector<Axis> taken;
  while (size != 1 && !rest.empty()) {
    Axis& next = rest.front();
    if (next.size != size && (next.size < 1 || size < 1)) break;
    if (next.size == size || size % next.size == 0) {
      size = next.size == size ? 1 : size / next.size;
      taken.push_back(next);
      rest.erase(rest.begin());
      continue;
    }
    if (next.size % size != 0) break;
    next.size /= size;
    taken.push_back({next.axis, size, next.size * next.step});
    size = 1;
  }
  if (size != 1) throw Unsupported("a reshape that mixes axes");
  return taken;
}

}  // namespace

void join(std::vector<Axis>& axes) {
  for (std::size_t i = 0; i + 1 < axes.size();) {
    const Axis &slow = axes[i], &fast = axes[i + 1];
    if (slow.axis != fast.axis || slow.step != fast.size * fast.step) {
      ++i;
      continue;
    }
    axes[i] = {slow.axis, slow.size * fast.size, fast.step};
    axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }
}

Dims View::sizes() const {
  Dims sizes;
  for (const auto& axes : dims) sizes.push_back(size_of(axes));
  return sizes;
}

View View::times(double by) const {
  View y = *this;
  y.scale *= by;
  y.shift *= by;
  return y;
}

View View::plus(double by) const {
  View y = *this;
  y.shift += by;
  return y;
}

View whole_view(ValueId id, const Shape& shape) {
  View view{id, {}};
  for (int a = 0; a < shape.rank(); ++a) {
    view.dims.push_back(single_axis(a, shape[a]));
  }
  return view;
}

View reshaped(const View& view, const Dims& sizes) {
  std::vector<Axis> rest;
  for (const auto& axes : view.dims) rest.insert(rest.end(), axes.begin(), axes.end());
  join(rest);
  View result = view;
  result.dims.clear();
  for (const std::int64_t size : sizes) result.dims.push_back(take(rest, size));
  if (!rest.empty()) throw Unsupported("a reshape to fewer elements");
  return result;
}

View part_of_channels(const View& view, std::size_t dim, std::int64_t first, std::int64_t count) {
  View part = view;
  std::vector<Axis>& axes = part.dims[dim];
  if (axes.size() != 1 || axes[0].axis != 1) throw Unsupported("of other than the channels");
  part.partial = true;
  part.first += first * axes[0].step;
  axes = single_axis(1, count, axes[0].step);
  return part;
}

void swap_last(View& view) {
  const std::size_t rank = view.dims.size();
  if (rank < 2) throw Unsupported("of a vector");
  std::swap(view.dims[rank - 1], view.dims[rank - 2]);
}

View transposed(const View& view, const Dims& order) {
  View result = view;
  if (order.empty()) {
    std::reverse(result.dims.begin(), result.dims.end());
    return result;
  }
  if (order.size() != view.dims.size()) throw Unsupported("an order of another length");
  for (std::size_t i = 0; i < order.size(); ++i) {
    result.dims[i] = view.dims[axis_of(order[i], view.dims.size())];
  }
  return result;
}

bool is_axis(const View& view, std::size_t i, int axis, const Shape& shape) {
  if (i >= view.dims.size()) return false;
  const std::vector<Axis>& axes = view.dims[i];
  const std::int64_t size = axis < shape.rank() ? shape[axis] : 1;
  if (size == 1) return axes.empty();
  return axes.size() == 1 && axes[0] == Axis{axis, size};
}

bool is_pixels(const View& view, std::size_t i, const Shape& shape) {
  std::vector<Axis> all;
  for (int a = 2; a < shape.rank(); ++a) {
    if (shape[a] != 1) all.push_back({a, shape[a]});
  }
  return i < view.dims.size() && view.dims[i] == all;
}

bool is_image(const View& view, const Shape& shape) {
  if (view.dims.size() < 2 || view.dims.size() > 4) return false;
  for (int a = 0; a < 4; ++a) {
    const std::size_t i = to_size(a);
    if (i < view.dims.size() ? !is_axis(view, i, a, shape) : a < shape.rank() && shape[a] != 1) {
      return false;
    }
  }
  return true;
}

bool is_tokens(const View& view, const Shape& shape) {
  return shape.rank() == 4 && shape[3] == 1 && view.dims.size() == 3 &&
         is_axis(view, 0, 0, shape) && is_axis(view, 1, 2, shape) && is_axis(view, 2, 1, shape);
}

std::int64_t shuffled_groups(const View& view, const Shape& shape) {
  if (shape.rank() != 4 || view.dims.size() != 4 || view.dims[1].size() != 2) return 1;
  const Axis &slow = view.dims[1][0], &fast = view.dims[1][1];
  if (slow != Axis{1, slow.size} || fast != Axis{1, fast.size, slow.size}) return 1;
  View whole = view;
  whole.dims[1] = {{1, shape[1]}};
  return slow.size * fast.size == shape[1] && is_image(whole, shape) ? fast.size : 1;
}

}  // namespace sepconv::importer
