#include "models/layers.h"

#include <algorithm>

namespace sepconv::models {

namespace {

Constant reshaped(const Constant& tensor, const Shape& shape) {
  if (!tensor->data()) return std::make_shared<Tensor>(Tensor::shape_only(shape));
  return Tensor::borrow(tensor->data(), shape, tensor);
}

// What keeps the size at stride 1.
Padding half(Size2d kernel) {
  const std::int64_t v = (kernel.height - 1) / 2, h = (kernel.width - 1) / 2;
  return {v, v, h, h};
}

}  // namespace

// timm names the weights of a grouped pointwise convolution group by group.
Constant Builder::conv_weight(const ConvNorm& layer) {
  const Shape shape{layer.out, layer.in / layer.groups, layer.kernel.height, layer.kernel.width};
  if (layer.kernel != Size2d(1) || layer.groups == 1)
    return weights_.get(layer.conv + ".weight", shape);
  auto all = std::make_shared<Tensor>(shape);
  const Shape part{layer.out / layer.groups, shape[1], 1, 1};
  for (std::int64_t g = 0; g < layer.groups; ++g) {
    const Constant weight = weights_.get(layer.conv + "." + std::to_string(g) + ".weight", part);
    if (!weight->data()) continue;
    std::copy_n(weight->data(), part.elements(), all->data() + g * part.elements());
  }
  return all;
}

ValueId Builder::conv_norm(ValueId x, const ConvNorm& layer) {
  Conv2dNode conv;
  conv.weight = conv_weight(layer);
  conv.groups = layer.groups;
  conv.options.stride = layer.stride;
  if (!layer.unpadded) conv.options.padding = half(layer.kernel);
  conv.same_padding = flavour_.same_padding;
  x = graph.add(layer.conv, std::move(conv), {x});
  return norm(x, layer);
}

ValueId Builder::conv_bias(ValueId x, const ConvNorm& layer, bool flat) {
  const Shape shape{layer.out, layer.in / layer.groups, layer.kernel.height, layer.kernel.width};
  Conv2dNode conv;
  conv.weight = weights_.get(layer.conv + ".weight", flat ? Shape{layer.out, layer.in} : shape);
  if (flat) conv.weight = reshaped(conv.weight, shape);
  conv.bias = weights_.get(layer.conv + ".bias", {layer.out});
  conv.groups = layer.groups;
  conv.options.stride = layer.stride;
  if (layer.groups > 1) conv.options.padding = half(layer.kernel);
  conv.options.activation = layer.activation;
  return graph.add(layer.conv, std::move(conv), {x});
}

ValueId Builder::layer_norm(ValueId x, const std::string& name, std::int64_t channels,
                            double epsilon) {
  LayerNormNode norm;
  norm.weight = weights_.get(name + ".weight", {channels});
  norm.bias = weights_.get(name + ".bias", {channels});
  norm.epsilon = epsilon;
  return graph.add(name, std::move(norm), {x});
}

ValueId Builder::mixed_depthwise_norm(ValueId x, const ConvNorm& layer,
                                      const std::vector<std::int64_t>& kernels) {
  MixedDepthwiseNode mixed;
  const std::int64_t ranges = static_cast<std::int64_t>(kernels.size());
  for (std::int64_t i = 0; i < ranges; ++i) {
    const std::int64_t rest = i == 0 ? layer.out % ranges : 0;
    const std::int64_t k = kernels[static_cast<std::size_t>(i)];
    mixed.weights.push_back(weights_.get(layer.conv + "." + std::to_string(i) + ".weight",
                                         {layer.out / ranges + rest, 1, k, k}));
  }
  mixed.stride = layer.stride;
  mixed.same_padding = flavour_.same_padding;
  x = graph.add(layer.conv, std::move(mixed), {x});
  return norm(x, layer);
}

ValueId Builder::norm(ValueId x, const ConvNorm& layer) {
  BatchNormNode norm;
  norm.weight = weights_.get(layer.norm + ".weight", {layer.out});
  norm.bias = weights_.get(layer.norm + ".bias", {layer.out});
  norm.mean = weights_.get(layer.norm + ".running_mean", {layer.out});
  norm.variance = weights_.get(layer.norm + ".running_var", {layer.out});
  norm.epsilon = flavour_.epsilon;
  x = graph.add(layer.norm, std::move(norm), {x});
  if (layer.activation == Activation()) return x;
  return graph.add(layer.conv + ".act", ActivationNode{layer.activation}, {x});
}

ValueId Builder::squeeze_excite(ValueId x, const SqueezeExcite& layer) {
  ValueId s = global_pool(x, layer.reduce + ".pool");
  s = linear(s, layer.reduce, layer.channels, layer.middle, layer.activation, true);
  s = linear(s, layer.expand, layer.middle, layer.channels, layer.gate, true);
  return graph.add(layer.expand + ".scale", ScaleNode{}, {x, s});
}

ValueId Builder::add(ValueId a, ValueId b, const std::string& name) {
  return graph.add(name, AddNode{}, {a, b});
}

ValueId Builder::global_pool(ValueId x, const std::string& name) {
  return graph.add(name, GlobalAveragePoolNode{}, {x});
}

ValueId Builder::linear(ValueId x, const std::string& name, std::int64_t in, std::int64_t out,
                        const Activation& activation, bool as_convolution) {
  LinearNode linear;
  const Shape shape{out, in};
  linear.weight = weights_.get(name + ".weight", as_convolution ? Shape{out, in, 1, 1} : shape);
  if (as_convolution) linear.weight = reshaped(linear.weight, shape);
  linear.bias = weights_.get(name + ".bias", {out});
  linear.activation = activation;
  return graph.add(name, std::move(linear), {x});
}

void Builder::end_stage(ValueId x, std::int64_t stride) {
  if (stride == stage_stride_) graph.stages.pop_back();
  graph.stages.push_back(x);
  stage_stride_ = stride;
}

}  // namespace sepconv::models
