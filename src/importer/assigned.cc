// Parts of values replaced by others: what exporters make of an assignment to a slice.

#include <algorithm>

#include "base/sizes.h"
#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// A range of each of some first dimensions.
struct Box {
  Dims first, count;

  // Of places that are all of a box in order.
  Box(const OnnxTensor& places, const Dims& sizes) {
    const std::size_t known = places.dims.empty() ? 0 : to_size(places.dims.back());
    if (known < 1 || known > sizes.size() || places.size() == 0) {
      throw Unsupported("by what is no list of places");
    }
    const auto coordinate = [&](std::size_t i) {
      return static_cast<std::int64_t>(axis_of(places.integers[i], to_size(sizes[i % known])));
    };
    for (std::size_t d = 0; d < known; ++d) {
      first.push_back(coordinate(d));
      count.push_back(coordinate(places.size() - known + d) - first[d] + 1);
    }
    const bool orderly = std::all_of(count.begin(), count.end(), [](auto n) { return n > 0; });
    if (!orderly || count_of(count) != places.size() / known)
      throw Unsupported("by scattered places");
    Dims where(known, 0);
    for (std::size_t i = 0; i < places.size(); i += known) {
      for (std::size_t d = 0; d < known; ++d) {
        if (coordinate(i + d) != first[d] + where[d]) throw Unsupported("by scattered places");
      }
      for (std::size_t d = known; d-- > 0;) {
        if (++where[d] < count[d]) break;
        where[d] = 0;
      }
    }
  }
};

View slice(GraphBuilder& net, const OnnxNode& node, const View& x, std::size_t axis,
           std::int64_t begin, std::int64_t end) {
  const auto number = [](std::int64_t n) { return made({{1}, true, {}, {n}}); };
  Values in(kMostInputs, OnnxConstant());
  in[0] = x;
  in[1] = number(begin);
  in[2] = number(end);
  in[3] = number(static_cast<std::int64_t>(axis));
  return view(net.settled(
      apply(import_slice, net, node_of("Slice", node.name + ".rest"), std::move(in)).front()));
}

// x with elements from `begin` on of a dimension replaced by another value's.
Values with_range(GraphBuilder& net, const OnnxNode& node, const View& x, std::size_t axis,
                  std::int64_t begin, const View& range) {
  const std::int64_t size = x.sizes()[axis], end = begin + range.sizes()[axis];
  Values parts;
  if (begin > 0) parts.push_back(slice(net, node, x, axis, 0, begin));
  parts.push_back(range);
  if (end < size) parts.push_back(slice(net, node, x, axis, end, size));
  OnnxNode concat = node_of("Concat", node.name);
  concat.inputs.resize(parts.size());
  concat.attributes["axis"].integer = static_cast<std::int64_t>(axis);
  parts.resize(kMostInputs, OnnxConstant());
  return apply(import_concat, net, concat, std::move(parts));
}

// The constant that says where updates go.
const OnnxTensor& places_of(const OnnxNode& node, const Values& in) {
  const OnnxConstant places = constant(in, 1);
  if (!places || !places->integer || text_of(node, "reduction", "none") != "none") {
    throw Unsupported("by other than constants, or with a reduction");
  }
  return *places;
}

}  // namespace

// A range of one dimension, all of the others.
Values import_scatter_nd(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const View x = net.real(in[0]);
  const Dims sizes = x.sizes();
  const Box box(places_of(node, in), sizes);
  std::size_t axis = 0, axes = 0;
  Dims part = sizes;
  for (std::size_t d = 0; d < box.count.size(); ++d) {
    if (box.count[d] == sizes[d]) continue;
    axis = d;
    ++axes;
    part[d] = box.count[d];
  }
  if (axes > 1) throw Unsupported("but for a range of one dimension");
  return with_range(net, node, x, axis, box.first[axis], reshaped(net.real(in[2]), part));
}

// The same range for all of the others.
Values import_scatter_elements(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const View x = net.real(in[0]), range = net.real(in[2]);
  const OnnxTensor& places = places_of(node, in);
  Dims sizes = x.sizes();
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), sizes.size());
  const auto place = [&](std::size_t i) {
    return static_cast<std::int64_t>(axis_of(places.integers[i], to_size(sizes[axis])));
  };
  Dims part = sizes;
  if (places.dims.size() == part.size()) part[axis] = places.dims[axis];
  if (places.dims != part || range.sizes() != part || places.size() == 0) {
    throw Unsupported("but for a range of one dimension");
  }
  const std::size_t step = strides(part)[axis];
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto along = static_cast<std::int64_t>(i / step % to_size(part[axis]));
    if (place(i) != place(0) + along) throw Unsupported("by scattered places");
  }
  return with_range(net, node, x, axis, place(0), range);
}

}  // namespace sepconv::importer
