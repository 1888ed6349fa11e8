// Parts of a value: some of its channels, pixels by steps, windows, the first token.

#include <algorithm>
#include <optional>

#include "base/sizes.h"
#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// Elements [first, first + count) of one dimension: one of the channels' factor, or some channels.
Value part_of(GraphBuilder& net, const View& x, std::size_t axis, std::int64_t first,
              std::int64_t count) {
  const std::int64_t size = x.sizes()[axis];
  if (first < 0 || count < 1 || first + count > size) throw Unsupported("of nothing");
  if (count == size) return x;
  if (is_tokens(x, net.shape(x)) && axis == 1 && first == 0 && count == 1) {
    View y = net.add_view("first_token", FirstTokenNode{}, {net.real(x).id});
    y.dims.insert(y.dims.begin() + 1, std::vector<Axis>());
    return y;
  }
  const bool shuffled = axis == 1 && shuffled_groups(x, net.shape(x)) > 1;
  const bool image = is_image(x, net.shape(x)) && axis == 1 && net.shape(x).rank() == 4;
  const std::vector<Axis>& axes = x.dims[axis];
  const bool channels = axes.size() == 1 && axes[0].axis == 1;
  if (!shuffled && !image && channels) return part_of_channels(x, axis, first, count);
  if (!shuffled && !image) return net.cropped(x, axis, first, count);
  const View whole = net.image(x);
  return waiting(SomeChannels{whole, first, count});
}

}  // namespace

Values import_split(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const View& x = view(in[0]);
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), x.dims.size());
  const std::int64_t size = x.sizes()[axis];
  const auto parts = static_cast<std::int64_t>(node.outputs.size());
  Dims sizes = list_of(node, "split", constant(in, 1));
  if (sizes.empty()) {
    const std::int64_t each = (size + parts - 1) / parts;
    sizes.assign(to_size(parts), each);
    sizes.back() = size - each * (parts - 1);
  }
  if (static_cast<std::int64_t>(sizes.size()) != parts) throw Unsupported("of unequal lists");
  Values out;
  std::int64_t first = 0;
  for (const std::int64_t count : sizes) {
    out.push_back(part_of(net, x, axis, first, count));
    first += count;
  }
  return out;
}

namespace {

// Whether a dimension is height or width.
bool goes_by_pixels(const GraphBuilder& net, const View& x, std::size_t dim) {
  const Shape& s = net.shape(x);
  return s.rank() == 4 && !x.dims[dim].empty() && (is_axis(x, dim, 2, s) || is_axis(x, dim, 3, s));
}

// Every step-th element of that from `first` on, as a depthwise convolution takes them that is one
// at that tap.
View every(GraphBuilder& net, const std::string& name, View x, std::size_t dim, std::int64_t first,
           std::int64_t step) {
  x = net.real(x);
  const int axis = x.dims[dim][0].axis;
  const bool rows = axis == 2;
  Conv2dNode n = one_tap(net.channels(x), rows ? Size2d(first + 1, 1) : Size2d(1, first + 1));
  n.options.stride = rows ? Size2d(step, 1) : Size2d(1, step);
  x.id = net.add(name, std::move(n), {x.id});
  x.dims[dim] = single_axis(axis, net.shape(x)[axis]);
  return x;
}

// The same of a dimension that is the channels.
View every_channel(const View& x, std::size_t dim, std::int64_t first, std::int64_t end,
                   std::int64_t step) {
  if (first >= end) throw Unsupported("of nothing");
  const std::int64_t count = (end - first - 1) / step + 1;
  View y = part_of_channels(x, dim, first, 1);
  y.dims[dim] = single_axis(1, count, step * x.dims[dim][0].step);
  return y;
}

}  // namespace

Values import_slice(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const Dims starts = list_of(node, "starts", constant(in, 1));
  const Dims ends = list_of(node, "ends", constant(in, 2));
  Dims axes = list_of(node, "axes", constant(in, 3));
  const Dims steps = list_of(node, "steps", constant(in, 4));
  for (std::size_t i = axes.size(); i < starts.size(); ++i) {
    axes.push_back(static_cast<std::int64_t>(i));
  }
  const bool forwards = std::all_of(steps.begin(), steps.end(), [](auto s) { return s >= 1; });
  if (starts.empty() || ends.size() != starts.size() || axes.size() != starts.size() || !forwards) {
    throw Unsupported("backwards, or by bounds that are no constants");
  }
  Value result = in[0];
  for (std::size_t i = 0; i < starts.size(); ++i) {
    View x = view(i > 0 ? net.settled(result) : result);
    const std::size_t axis = axis_of(axes[i], x.dims.size());
    const std::int64_t size = x.sizes()[axis];
    const auto position = [size](std::int64_t p) {
      return std::clamp<std::int64_t>(p < 0 ? p + size : p, 0, size);
    };
    const std::int64_t first = position(starts[i]), step = i < steps.size() ? steps[i] : 1;
    const std::int64_t end = position(ends[i]);
    if (step == 1) {
      result = part_of(net, x, axis, first, end - first);
    } else if (end == size && first < std::min(step, size) && goes_by_pixels(net, x, axis)) {
      result = every(net, node.name, x, axis, first, step);
    } else {
      result = every_channel(net.matrices(x, axis), axis, first, end, step);
    }
  }
  return {result};
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

Dims strides_of(const Dims& dims) {
  const std::vector<std::size_t> from = strides(dims);
  return {from.begin(), from.end()};
}

// Indices that go by a step along every dimension of theirs: windows, whether they overlap or not.
struct Steps {
  std::int64_t first = 0;
  Dims by;
};

std::optional<Steps> steps_of(const OnnxTensor& index, std::int64_t size) {
  if (index.size() == 0) return std::nullopt;
  const auto value = [&](std::size_t i) {
    return static_cast<std::int64_t>(axis_of(index.integers[i], to_size(size)));
  };
  const Dims stride = strides_of(index.dims);
  Steps steps{value(0), Dims(index.dims.size(), 1)};
  for (std::size_t d = 0; d < index.dims.size(); ++d) {
    if (index.dims[d] > 1) steps.by[d] = value(to_size(stride[d])) - steps.first;
    if (steps.by[d] < 0) return std::nullopt;
  }
  for (std::size_t i = 0; i < index.size(); ++i) {
    std::int64_t expected = steps.first;
    for (std::size_t d = 0; d < index.dims.size(); ++d) {
      expected += static_cast<std::int64_t>(i) / stride[d] % index.dims[d] * steps.by[d];
    }
    if (value(i) != expected) return std::nullopt;
  }
  return steps;
}

// These elements of a dimension, as channels of a copy.
View picked(GraphBuilder& net, const View& x, std::size_t axis, const OnnxTensor& index,
            const Steps& steps) {
  const bool image = axis == 1 && x.dims.size() == 4 && is_image(x, net.shape(x));
  View all = image ? net.real(x) : net.matrices(x, axis);
  all.dims[axis].clear();
  for (std::size_t d = 0; d < index.dims.size(); ++d) {
    if (index.dims[d] > 1) all.dims[axis].push_back({1, index.dims[d], steps.by[d]});
  }
  all.partial = true;
  all.first = steps.first;
  return image ? net.four_dimensions(all) : net.matrices(all, axis);
}

}  // namespace

namespace {

// Elements of a dimension in any order.
View in_any_order(GraphBuilder& net, const std::string& name, View x, std::size_t axis,
                  const Dims& order) {
  x = net.real(x);
  const auto count = static_cast<std::int64_t>(order.size());
  if (net.shape(x).rank() == 4 && !x.partial && !x.dims[axis].empty() &&
      is_axis(x, axis, 1, net.shape(x))) {
    x.id = net.add(name, PickNode{order, true}, {x.id});
    x.dims[axis] = single_axis(1, count);
    return x;
  }
  if (net.shape(x).rank() != 4 || x.dims[axis].empty() || !is_axis(x, axis, 2, net.shape(x))) {
    std::vector<int> places(x.dims.size(), 1);
    places[axis] = 2;
    x = net.placed(x, places, axis > 0);
  }
  x.id = net.add(name, PickNode{order}, {x.id});
  x.dims[axis] = single_axis(2, count);
  return x;
}

// What an index tensor takes of a dimension, in place of which its dimensions come.
View gathered(GraphBuilder& net, const std::string& name, const View& x, std::size_t axis,
              const OnnxTensor& index) {
  const std::int64_t size = x.sizes()[axis];
  Dims sizes = x.sizes();
  sizes.erase(sizes.begin() + static_cast<std::ptrdiff_t>(axis));
  sizes.insert(sizes.begin() + static_cast<std::ptrdiff_t>(axis), index.dims.begin(),
               index.dims.end());
  if (const std::optional<Steps> steps = steps_of(index, size)) {
    const bool in_order =
        steps->first == 0 && index.size() == to_size(size) && steps->by == strides_of(index.dims);
    return reshaped(in_order ? x : picked(net, x, axis, index, *steps), sizes);
  }
  Dims order;
  for (const std::int64_t i : index.integers) {
    order.push_back(static_cast<std::int64_t>(axis_of(i, to_size(size))));
  }
  if (order.empty()) throw Unsupported("of nothing");
  return reshaped(in_any_order(net, name, x, axis, order), sizes);
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
  return {gathered(net, node.name, x, axis, *index)};
}

// Of the first dimensions, as many as a place has numbers: of these as one.
Values import_gather_nd(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  View x = net.real(in[0]);
  const OnnxConstant places = constant(in, 1);
  if (!places || !places->integer || places->dims.empty() ||
      integer_of(node, "batch_dims", 0) != 0) {
    throw Unsupported("by other than constants, or with batch_dims");
  }
  const auto known = places->dims.back();
  if (known < 1 || known > static_cast<std::int64_t>(x.dims.size())) {
    throw Unsupported("by places of another rank");
  }
  const Dims sizes = x.sizes();
  OnnxTensor index;
  index.integer = true;
  index.dims.assign(places->dims.begin(), places->dims.end() - 1);
  for (std::size_t i = 0; i < places->size();) {
    std::int64_t at = 0;
    for (std::size_t d = 0; d < to_size(known); ++d, ++i) {
      at = at * sizes[d] +
           static_cast<std::int64_t>(axis_of(places->integers[i], to_size(sizes[d])));
    }
    index.integers.push_back(at);
  }
  for (std::size_t d = 1; d < to_size(known); ++d) {
    x.dims[0].insert(x.dims[0].end(), x.dims[1].begin(), x.dims[1].end());
    x.dims.erase(x.dims.begin() + 1);
  }
  return {gathered(net, node.name, x, 0, index)};
}

}  // namespace sepconv::importer
