// Convolutions, linear layers and pools.

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/sizes.h"
#include "graph/plan.h"
#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// A linear layer on [N, C], its result with `rank` dimensions.
View linear(GraphBuilder& net, const std::string& name, ValueId x, const Floats& weights,
            std::int64_t out, Constant bias, std::size_t rank) {
  LinearNode n;
  n.weight = tensor_of({out, net.shapes[x][1]}, weights);
  n.bias = std::move(bias);
  View y = net.add_view(name, std::move(n), {x});
  y.dims.resize(rank);
  return y;
}

// A node over lines as one over images of width 1.
OnnxNode planar(const OnnxNode& node) {
  OnnxNode image = node;
  for (const char* name : {"kernel_shape", "strides", "dilations", "pads"}) {
    const auto found = image.attributes.find(name);
    if (found == image.attributes.end()) continue;
    Dims& list = found->second.integers;
    const bool pads = std::string(name) == "pads";
    if (list.size() != (pads ? 2 : 1)) throw Unsupported("over other than one dimension");
    list = pads ? Dims{list[0], 0, list[1], 0} : Dims{list[0], 1};
  }
  return image;
}

// A handler's result for a value [N, C, L].
Value along_lines(GraphBuilder& net, const OnnxNode& node, Values in, Handler handler) {
  View x = net.real(in[0]);
  x.dims.emplace_back();
  in[0] = x;
  View y = view(handler(net, planar(node), in).front());
  y.dims.pop_back();
  return y;
}

bool is_line(const Value& value) {
  const auto* x = std::get_if<View>(&value);
  return x && x->dims.size() == 3;
}

}  // namespace

Values import_conv(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (const auto* part = expression<SomeChannels>(in[0])) {
    return {waiting(ConvolvedChannels{*part, &node, constant(in, 1), constant(in, 2)})};
  }
  View x = view(in[0]);
  if (const OnnxConstant w = constant(in, 1); w && w->dims.size() == 3 && is_line(in[0])) {
    OnnxTensor image = *w;
    image.dims.push_back(1);
    Values all = in;
    all[1] = std::make_shared<const OnnxTensor>(std::move(image));
    return {along_lines(net, node, std::move(all), import_conv)};
  }
  if (x.padding != Padding(0) && x.padded_with != 0) x = net.real(x);
  const Padding before = x.padding;
  x.padding = 0;
  x = net.image(x);
  const OnnxConstant w = constant(in, 1);
  if (!w || w->dims.size() != 4) throw Unsupported("whose weight is no constant [M, C, kH, kW]");
  const Floats& weights = floats(in, 1, "weight");
  Conv2dNode n;
  n.groups = integer_of(node, "group", 1);
  n.weight = tensor_of(Shape(w->dims.data(), 4), weights);
  if (constant(in, 2)) n.bias = vector_of(floats(in, 2, "bias"));
  n.options.stride = pair_of(node, "strides");
  n.options.dilation = pair_of(node, "dilations");
  x.padding = before;
  n.options.padding =
      net.padding_of(node, x, {w->dims[2], w->dims[3]}, n.options.stride, n.options.dilation);
  const bool vector = net.shape(x).rank() != 4;
  if (vector && w->dims[2] * w->dims[3] == 1 && n.groups == 1 && n.options.padding == Padding(0)) {
    return {linear(net, node.name, x.id, weights, w->dims[0], n.bias, 4)};
  }
  const ValueId image = vector ? net.add(node.name + ".input", ArrangeNode{x.dims}, {x.id}) : x.id;
  return {net.add_view(node.name, std::move(n), {image})};
}

namespace {

// Pads a transposed convolution so that its result has the size that a node asks for.
void fit_output(const OnnxNode& node, const Shape& x, ConvTranspose2dNode& n) {
  Dims size = list_of(node, "output_shape");
  const std::string how = text_of(node, "auto_pad", "NOTSET");
  const bool same = how == "SAME_UPPER" || how == "SAME_LOWER";
  if (size.empty() && !same) return;
  if (size.empty()) size = {x[2] * n.stride.height, x[3] * n.stride.width};
  if (size.size() == 4) size.erase(size.begin(), size.begin() + 2);
  if (size.size() != 2) throw Unsupported("with an output_shape that is no height and width");
  n.padding = 0;
  const Shape whole = transposed_output(n, x);
  const auto share = [how](std::int64_t too_many, std::int64_t& before, std::int64_t& after,
                           std::int64_t& missing) {
    const std::int64_t half = too_many / 2, most = std::max<std::int64_t>(too_many, 0);
    before = how == "SAME_UPPER" ? half : most - half;
    after = most - before;
    missing += std::max<std::int64_t>(-too_many, 0);
    if (too_many < 0) before = after = 0;
  };
  share(whole[2] - size[0], n.padding.top, n.padding.bottom, n.output_padding.height);
  share(whole[3] - size[1], n.padding.left, n.padding.right, n.output_padding.width);
}

// [C][M / groups][taps] to [M][C / groups][taps].
Floats turned(const Floats& from, std::int64_t channels, std::int64_t out, std::int64_t groups,
              std::int64_t taps) {
  Floats to;
  to.reserve(from.size());
  const std::int64_t in_each = channels / groups, out_each = out / groups;
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t c = o / out_each * in_each; c < (o / out_each + 1) * in_each; ++c) {
      const auto first = from.begin() + (c * out_each + o % out_each) * taps;
      to.insert(to.end(), first, first + taps);
    }
  }
  return to;
}

}  // namespace

Values import_conv_transpose(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const View x = net.image(in[0]);
  const OnnxConstant w = constant(in, 1);
  const Floats& weights = floats(in, 1, "weight");
  ConvTranspose2dNode n;
  n.groups = integer_of(node, "group", 1);
  if (w->dims.size() != 4 || net.shape(x).rank() != 4 || w->dims[0] != net.channels(x)) {
    throw Unsupported("of other than [N, C, H, W] and [C, M, kH, kW]");
  }
  if (n.groups < 1 || w->dims[0] % n.groups != 0 || weights.empty()) {
    throw Unsupported("with groups that do not fit the channels");
  }
  const std::int64_t out = checked_multiply(w->dims[1], n.groups, "groups");
  const std::int64_t taps = w->dims[2] * w->dims[3];
  n.weight = tensor_of({out, w->dims[0] / n.groups, w->dims[2], w->dims[3]},
                       turned(weights, w->dims[0], out, n.groups, taps));
  if (constant(in, 2)) n.bias = vector_of(floats(in, 2, "bias"));
  n.stride = pair_of(node, "strides");
  n.dilation = pair_of(node, "dilations");
  if (node.attributes.contains("output_padding")) {
    n.output_padding = pair_of(node, "output_padding");
  }
  const Dims pads = list_of(node, "pads");
  if (!pads.empty() && pads.size() != 4) throw Unsupported("over other than two dimensions");
  if (!pads.empty()) n.padding = {pads[0], pads[2], pads[1], pads[3]};
  fit_output(node, net.shape(x), n);
  return {net.add_view(node.name, std::move(n), {x.id})};
}

// Windows' elements, [N, C · window, windows], added where they lie in an image: a transposed
// convolution of each channel's by ones.
Values import_columns(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const OnnxConstant size = constant(in, 1), window = constant(in, 2);
  const View x = net.real(in[0]);
  if (!size || !window || size->integers.size() != 2 || window->integers.size() != 2 ||
      x.dims.size() != 3) {
    throw Unsupported("of other than windows of images");
  }
  ConvTranspose2dNode n;
  n.stride = pair_of(node, "strides");
  n.dilation = pair_of(node, "dilations");
  const Dims pads = list_of(node, "pads");
  if (!pads.empty() && pads.size() != 4) throw Unsupported("over other than two dimensions");
  if (!pads.empty()) n.padding = {pads[0], pads[2], pads[1], pads[3]};
  const std::int64_t height = window->integers[0], width = window->integers[1];
  const std::int64_t taps = checked_multiply(height, width, "block_shape");
  const Dims sizes = x.sizes();
  if (height < 1 || width < 1 || sizes[1] % taps != 0) throw Unsupported("of other channels");
  const auto windows = [](std::int64_t whole, std::int64_t tap, std::int64_t step,
                          std::int64_t dilation) {
    return (whole - dilation * (tap - 1) - 1) / step + 1;
  };
  const std::int64_t rows = windows(size->integers[0] + n.padding.top + n.padding.bottom, height,
                                    n.stride.height, n.dilation.height);
  const std::int64_t columns = windows(size->integers[1] + n.padding.left + n.padding.right, width,
                                       n.stride.width, n.dilation.width);
  const View images = net.image(reshaped(x, {sizes[0], sizes[1], rows, columns}));
  n.groups = sizes[1] / taps;
  auto weight = std::make_shared<Tensor>(Shape{n.groups, taps, height, width});
  for (std::int64_t c = 0; c < n.groups; ++c) {
    for (std::int64_t t = 0; t < taps; ++t) weight->data()[(c * taps + t) * taps + t] = 1;
  }
  n.weight = std::move(weight);
  // What no window reaches at the end.
  const Shape whole = transposed_output(n, net.shape(images));
  n.output_padding = {size->integers[0] - whole[2], size->integers[1] - whole[3]};
  return {net.add_view(node.name, std::move(n), {images.id})};
}

Values import_pool(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (is_line(in[0])) return {along_lines(net, node, in, import_pool)};
  View x = view(in[0]);
  Pool2dNode n;
  n.kind = node.type == "MaxPool" ? Pool::kMax : Pool::kAverage;
  const float lowest = -std::numeric_limits<float>::max();
  if (x.padding != Padding(0) && (n.kind == Pool::kAverage || x.padded_with > lowest)) {
    x = net.real(x);
  }
  const Padding before = x.padding;
  x.padding = 0;
  x = net.image(x);
  if (node.outputs.size() > 1 && !node.outputs[1].empty()) throw Unsupported("with indices");
  if (pair_of(node, "dilations") != Size2d(1)) throw Unsupported("with dilation");
  n.options.kernel = pair_of(node, "kernel_shape");
  n.options.stride = pair_of(node, "strides");
  n.options.count_include_pad = integer_of(node, "count_include_pad", 0) != 0;
  n.ceil_mode = integer_of(node, "ceil_mode", 0) != 0;
  x.padding = before;
  n.options.padding = net.padding_of(node, x, n.options.kernel, n.options.stride, 1);
  if (n.ceil_mode && n.kind == Pool::kAverage) {
    // What a window has beyond the padding does not count, so that the padding may not either.
    const Padding wider = pool_padding(n, net.shape(x));
    if (n.options.padding == Padding(0)) n.options.count_include_pad = false;
    if (wider != n.options.padding && n.options.count_include_pad) {
      throw Unsupported("with ceil_mode and padding that counts");
    }
    n.options.padding = wider;
    n.ceil_mode = false;
  }
  return {net.add_view(node.name, n, {x.id})};
}

Values import_global_pool(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (is_line(in[0])) return {along_lines(net, node, in, import_global_pool)};
  const View x = net.image(in[0]);
  if (net.shape(x).rank() == 2) return {x};
  Pool2dNode largest;
  largest.options.kernel = {net.shape(x)[2], net.shape(x)[3]};
  View y = node.type == "GlobalMaxPool" ? net.add_view(node.name, largest, {x.id})
                                        : net.add_view(node.name, GlobalAveragePoolNode{}, {x.id});
  y.dims.resize(x.dims.size());
  return {y};
}

}  // namespace sepconv::importer
