#include "importer/operands.h"

#include <algorithm>

#include "base/sizes.h"
#include "importer/constants.h"

namespace sepconv::importer {

namespace {

// A constant that has the same for each image once: positions that a file computes for all of them.
OnnxConstant of_one_image(const GraphBuilder& net, const View& x, const OnnxConstant& c) {
  const std::int64_t images = net.shape(x)[0];
  if (images < 2 || c->integer || c->dims.size() != x.dims.size() || c->dims[0] != images ||
      !is_axis(x, 0, 0, net.shape(x))) {
    return c;
  }
  const auto each = static_cast<std::ptrdiff_t>(c->size()) / images;
  const auto first = c->floats.begin();
  if (!std::equal(first + each, c->floats.end(), first)) return c;
  OnnxTensor one = *c;
  one.dims[0] = 1;
  one.floats.assign(first, first + each);
  return std::make_shared<const OnnxTensor>(std::move(one));
}

}  // namespace

View as_many(View x, const OnnxConstant& c) {
  const std::size_t rank = std::max(x.dims.size(), c->dims.size());
  x.dims.insert(x.dims.begin(), rank - x.dims.size(), std::vector<Axis>());
  return x;
}

std::pair<View, Constant> mapped(GraphBuilder& net, View x, const OnnxConstant& constant) {
  if (const Dims sizes = broadcast(x.sizes(), constant->dims); sizes != x.sizes()) {
    x = net.real(net.expanded(x, sizes));
  }
  const OnnxConstant c = of_one_image(net, x, constant);
  Constant map = net.map_for(x, c);
  if (!map && !x.dims.empty()) {
    x = net.matrices(x, x.dims.size() - 1);
    map = net.map_for(x, c);
  }
  if (!map) throw Unsupported("of a constant of another shape");
  return {x, map};
}

std::pair<View, View> alike(GraphBuilder& net, const View& x, const View& y) {
  const Dims sizes = broadcast(x.sizes(), y.sizes());
  const bool whole = x.sizes() == sizes, other_whole = y.sizes() == sizes;
  // What follows is cheaper for an image than for parts of one or pixels taken apart.
  const bool other_lies_better =
      other_whole && is_image(y, net.shape(y)) && !is_image(x, net.shape(x));
  if (whole && !other_lies_better) {
    const View like = net.real(x);
    return {like, net.laid_out_as(y, like)};
  }
  const View like = net.real(other_whole ? y : net.expanded(y, sizes));
  return {net.laid_out_as(x, like), like};
}

}  // namespace sepconv::importer
