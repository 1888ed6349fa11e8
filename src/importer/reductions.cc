// Means, sums and largest values over some dimensions.

#include <algorithm>
#include <cmath>
#include <optional>

#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// Which dimensions of x a reduction is over.
std::vector<bool> reduced_of(const OnnxNode& node, const Values& in, const View& x) {
  const Dims list = list_of(node, "axes", constant(in, 1));
  const bool none = list.empty() && integer_of(node, "noop_with_empty_axes", 0) != 0;
  std::vector<bool> reduced(x.dims.size(), list.empty() && !none);
  for (const std::int64_t a : list) reduced[axis_of(a, x.dims.size())] = true;
  return reduced;
}

// Whether that is all positions and nothing else.
bool over_positions(GraphBuilder& net, const View& x, const std::vector<bool>& reduced) {
  bool all = net.shape(x).rank() == 4;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    for (const Axis& axis : x.dims[i]) {
      all = all && reduced[i] == (axis.axis > 1);
    }
  }
  return all;
}

// Whether that is the channels and nothing else.
bool over_channels(GraphBuilder& net, const View& x, const std::vector<bool>& reduced) {
  bool all = true, any = false;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    const bool channels = is_axis(x, i, 1, net.shape(x)) && !x.dims[i].empty();
    all = all && reduced[i] == channels;
    any = any || channels;
  }
  return all && any;
}

// Whether that is all of height or of width, and nothing else.
bool over_lines(GraphBuilder& net, const View& x, const std::vector<bool>& reduced, int axis) {
  const Shape& s = net.shape(x);
  bool all = s.rank() == 4 && s[axis] > 1, any = false;
  for (std::size_t i = 0; i < reduced.size() && all; ++i) {
    const bool line = is_axis(x, i, axis, s);
    all = reduced[i] == line || x.dims[i].empty();
    any = any || line;
  }
  return all && any;
}

// Whether that is a few parts of the channels, which lie one after the other.
std::optional<std::size_t> over_parts(const View& x, const std::vector<bool>& reduced) {
  constexpr std::int64_t kMost = 8;
  if (std::count(reduced.begin(), reduced.end(), true) != 1) return std::nullopt;
  const auto dim =
      static_cast<std::size_t>(std::find(reduced.begin(), reduced.end(), true) - reduced.begin());
  const std::vector<Axis>& axes = x.dims[dim];
  const bool parts = axes.size() == 1 && axes[0].axis == 1 && axes[0].step > 1;
  return parts && axes[0].size <= kMost ? std::optional(dim) : std::nullopt;
}

// Their mean.
View mean_of_parts(GraphBuilder& net, const std::string& name, const View& x, std::size_t dim) {
  const std::int64_t count = size_of(x.dims[dim]);
  View sum = net.real(part_of_channels(x, dim, 0, 1));
  for (std::int64_t i = 1; i < count; ++i) {
    const View part = net.real(part_of_channels(x, dim, i, 1));
    if (part.dims != sum.dims) throw Unsupported("of parts that lie in other ways");
    sum = net.add_same(name, AddNode{}, sum, {part.id});
  }
  sum.scale = 1 / static_cast<double>(count);
  return net.real(sum);
}

// As columns of rows whose pixels keep their channels, if some are not reduced.
std::optional<View> as_columns(GraphBuilder& net, const View& x, const std::vector<bool>& reduced) {
  constexpr std::int64_t kLeast = 8;
  std::vector<int> places;
  bool channels = false;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    const std::vector<Axis>& axes = x.dims[i];
    const bool these = !channels && !reduced[i] && axes.size() == 1 && axes[0].axis == 1 &&
                       axes[0].step == 1 && axes[0].size >= kLeast;
    channels = channels || these;
    places.push_back(these ? 1 : reduced[i] ? 3 : 2);
  }
  return channels ? std::optional(net.placed(x, places, !reduced[0])) : std::nullopt;
}

// The largest or the mean; over whatever is neither positions nor channels, as channels of a copy.
View reduce(GraphBuilder& net, const std::string& name, Pool kind, View x,
            const std::vector<bool>& reduced, bool keep) {
  const Shape s = net.shape(x);
  ValueId id = 0;
  Pool2dNode pool;
  pool.kind = kind;
  bool nothing = true;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    nothing = nothing && (!reduced[i] || x.dims[i].empty());
  }
  if (nothing) {
    id = x.id;
  } else if (over_positions(net, x, reduced)) {
    pool.options.kernel = {s[2], s[3]};
    id = kind == Pool::kAverage ? net.add(name, GlobalAveragePoolNode{}, {x.id})
                                : net.add(name, pool, {x.id});
  } else if (over_lines(net, x, reduced, 2) || over_lines(net, x, reduced, 3)) {
    pool.options.kernel = over_lines(net, x, reduced, 2) ? Size2d(s[2], 1) : Size2d(1, s[3]);
    id = net.add(name, pool, {x.id});
  } else if (const auto dim = over_parts(x, reduced); dim && kind == Pool::kAverage) {
    x = mean_of_parts(net, name, x, *dim);
    id = x.id;
  } else if (const auto columns =
                 over_channels(net, x, reduced) ? std::nullopt : as_columns(net, x, reduced)) {
    x = *columns;
    pool.options.kernel = {1, net.shape(x)[3]};
    id = net.add(name, pool, {x.id});
  } else {
    if (s.rank() != 4 || !over_channels(net, x, reduced)) x = net.matrices(x, reduced);
    id = net.add(name, ChannelPoolNode{kind}, {x.id});
  }
  View y{id, {}};
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    if (!reduced[i]) y.dims.push_back(x.dims[i]);
    if (reduced[i] && keep) y.dims.emplace_back();
  }
  return y;
}

}  // namespace

View mean_of(GraphBuilder& net, const ChannelMean& e) {
  std::vector<bool> channels;
  for (std::size_t i = 0; i < e.of.dims.size(); ++i) {
    channels.push_back(is_axis(e.of, i, 1, net.shape(e.of)) && !e.of.dims[i].empty());
  }
  return reduce(net, "mean", Pool::kAverage, e.of, channels, true);
}

Values import_mean(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const bool keep = integer_of(node, "keepdims", 1) != 0;
  const auto over_channels_of = [&](const View& of) {
    return keep && over_channels(net, of, reduced_of(node, in, of));
  };
  if (const auto* squares = expression<CentredSquares>(in[0])) {
    if (!over_channels_of(squares->of)) throw Unsupported("of squares over other dimensions");
    return {waiting(Variance{squares->of})};
  }
  if (const auto* squares = expression<Squares>(in[0])) {
    if (!over_channels_of(squares->of)) throw Unsupported("of squares over other dimensions");
    return {waiting(MeanSquare{squares->of})};
  }
  if (const auto* norms = expression<Norms>(in[0]); norms && norms->positions) {
    if (!over_channels_of(norms->of)) throw Unsupported("of norms over other dimensions");
    return {waiting(MeanOfNorms{norms->of})};
  }
  const View x = net.real(in[0]);
  if (over_channels_of(x)) return {waiting(ChannelMean{x})};
  const std::vector<bool> reduced = reduced_of(node, in, x);
  return {reduce(net, node.name, Pool::kAverage, x, reduced, keep)};
}

View norms_of(GraphBuilder& net, const Norms& e, bool keep) {
  std::int64_t count = 1;
  for (std::size_t i = 0; i < e.over.size(); ++i) {
    if (e.over[i]) count *= size_of(e.of.dims[i]);
  }
  const View squares = net.add_same("squares", MultiplyNode{}, e.of, {e.of.id});
  View sum = reduce(net, "mean", Pool::kAverage, squares, e.over, keep);
  sum.scale = static_cast<double>(count);
  View norms = net.add_same("norms", FunctionNode{Function::kSqrt}, net.real(sum));
  const auto least = static_cast<float>(e.least);
  if (least <= 0) return norms;
  return net.add_same("least", ActivationNode{Activation::clamp(least, INFINITY)}, norms);
}

View norms_over_positions(GraphBuilder& net, const View& x) {
  std::vector<bool> over;
  for (const std::vector<Axis>& axes : x.dims) over.push_back(!axes.empty() && axes[0].axis > 1);
  return norms_of(net, {x, over, true}, true);
}

Values import_reduction(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  View x = view(in[0]);
  if (node.type == "ReduceL1") {
    x = net.add_same(node.name + ".abs", FunctionNode{Function::kAbs}, net.real(x));
  } else if (node.type == "ReduceSumSquare") {
    x = net.real(x);
    x = net.add_same(node.name + ".squares", MultiplyNode{}, x, {x.id});
  }
  const bool keep = integer_of(node, "keepdims", 1) != 0, least = node.type == "ReduceMin";
  const std::vector<bool> reduced = reduced_of(node, in, x);
  std::int64_t count = 1;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    if (reduced[i]) count *= size_of(x.dims[i]);
  }
  if (node.type != "ReduceMax" && !least) {
    View y = reduce(net, node.name, Pool::kAverage, net.real(x), reduced, keep);
    y.scale = static_cast<double>(count);
    return {y};
  }
  const View of = net.real(least ? x.times(-1) : x);
  const View y = reduce(net, node.name, Pool::kMax, of, reduced, keep);
  return {least ? y.times(-1) : y};
}

// Until it is known what becomes of them.
Values import_norm(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const View x = net.real(in[0]);
  const std::vector<bool> reduced = reduced_of(node, in, x);
  const Norms norms{x, reduced, over_positions(net, x, reduced)};
  if (!integer_of(node, "keepdims", 1)) return {norms_of(net, norms, false)};
  return {waiting(norms)};
}

}  // namespace sepconv::importer
