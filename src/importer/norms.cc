// Norms that are one node of a file.

#include <fmt/format.h>

#include <algorithm>

#include "base/sizes.h"
#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

// Shuffled channels are those of the value in another order.
Values import_batch_norm(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (integer_of(node, "training_mode", 0) != 0) throw Unsupported("in training mode");
  View x = net.real(in[0]);
  const std::int64_t groups = shuffled_groups(x, net.shape(x));
  if (groups == 1 && !is_axis(x, 1, 1, net.shape(x))) {
    x = x.dims.size() == 4 ? net.image(x) : net.matrices(x, 1);
  }
  const auto by_channel = [&](std::size_t i, const char* name) {
    const Floats& given = floats(in, i, name);
    if (groups == 1 || given.size() != to_size(net.channels(x))) return vector_of(given);
    const std::size_t each = given.size() / to_size(groups);
    Floats values(given.size());
    for (std::size_t c = 0; c < values.size(); ++c) {
      values[c] = given[c % each * to_size(groups) + c / each];
    }
    return vector_of(values);
  };
  BatchNormNode n{by_channel(1, "scale"), by_channel(2, "bias"), by_channel(3, "mean"),
                  by_channel(4, "variance"),
                  static_cast<double>(number_of(node, "epsilon", 1e-5F))};
  return {net.add_same(node.name, std::move(n), x)};
}

namespace {

// Over the dimensions from `axis` on, as channels; a weight and a bias for each element of these.
View norm_over_last(GraphBuilder& net, const OnnxNode& node, const Values& in, bool centred) {
  View x = net.real(in[0]);
  const std::size_t first = axis_of(integer_of(node, "axis", -1), x.dims.size());
  const Dims sizes = x.sizes(),
             over(sizes.begin() + static_cast<std::ptrdiff_t>(first), sizes.end());
  std::vector<bool> columns(x.dims.size(), false);
  std::fill(columns.begin() + static_cast<std::ptrdiff_t>(first), columns.end(), true);
  const bool as_it_lies = over.size() == 1 && is_axis(x, first, 1, net.shape(x));
  if (!as_it_lies) x = net.matrices(x, columns);
  const auto by_element = [&](std::size_t i, const char* name) {
    floats(in, i, name);
    const OnnxConstant all = expand(*constant(in, i), over);
    if (all->dims != over) throw Unsupported(fmt::format("with a {} of another shape", name));
    return vector_of(all->floats);
  };
  LayerNormNode norm{by_element(1, "scale"), nullptr,
                     static_cast<double>(number_of(node, "epsilon", 1e-5F)), centred};
  norm.bias =
      constant(in, 2) ? by_element(2, "bias") : vector_of(Floats(to_size(net.channels(x)), 0));
  return net.add_same(node.name, std::move(norm), x);
}

}  // namespace

Values import_layer_norm(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  return {norm_over_last(net, node, in, true)};
}

Values import_rms_norm(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  return {norm_over_last(net, node, in, false)};
}

namespace {

View group_norm(GraphBuilder& net, const OnnxNode& node, const View& x, GroupScaleNode n) {
  n.epsilon = static_cast<double>(number_of(node, "epsilon", 1e-5F));
  const ValueId factors = net.add(node.name + ".factors", std::move(n), {x.id});
  return net.add_same(node.name, ScaleShiftNode{}, x, {factors});
}

// A number for each channel, from one for each group where these are not the channels.
Constant by_group(const Floats& values, std::int64_t groups, std::int64_t channels) {
  if (values.size() == to_size(channels)) return vector_of(values);
  if (values.size() != to_size(groups)) throw Unsupported("with weights of another size");
  Floats all;
  for (const float v : values) all.insert(all.end(), to_size(channels / groups), v);
  return vector_of(all);
}

}  // namespace

Values import_group_norm(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const View x = net.image(in[0]);
  const std::int64_t groups = integer_of(node, "num_groups", 1), channels = net.channels(x);
  if (groups < 1 || channels % groups != 0) throw Unsupported("of groups that are not alike");
  GroupScaleNode n{by_group(floats(in, 1, "scale"), groups, channels),
                   by_group(floats(in, 2, "bias"), groups, channels), groups};
  return {group_norm(net, node, x, std::move(n))};
}

// Of [N, C, …], or of [N, groups, channels of a group and all positions], as exporters take a group
// norm for one.
Values import_instance_norm(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  View x = net.real(in[0]);
  const std::size_t rank = x.dims.size();
  if (rank < 3) throw Unsupported("of another shape");
  if (net.shape(x).rank() != 4 || !is_axis(x, 0, 0, net.shape(x))) {
    std::vector<int> places(rank, 2);
    places[0] = 0;
    places[1] = 1;
    x = net.placed(x, places, false);
  }
  const Shape s = net.shape(x);
  const std::int64_t groups = x.sizes()[1];
  const std::int64_t each = s[1] / std::max<std::int64_t>(groups, 1);
  const std::vector<Axis> of_groups{{1, groups, each}};
  if (groups < 1 || groups * each != s[1] || (groups > 1 && x.dims[1] != of_groups)) {
    x = net.matrices(x, 1);
  }
  const std::int64_t channels = net.channels(x);
  GroupScaleNode n{by_group(floats(in, 1, "scale"), groups, channels),
                   by_group(floats(in, 2, "bias"), groups, channels), groups};
  return {group_norm(net, node, x, std::move(n))};
}

}  // namespace sepconv::importer
