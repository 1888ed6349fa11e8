#include "models/layers.h"

namespace sepconv::models {

ValueId Builder::conv_norm(ValueId x, const ConvNorm& layer) {
  Conv2dNode conv;
  conv.weight = weights_.get(layer.conv + ".weight",
                             {layer.out, layer.in / layer.groups, layer.kernel, layer.kernel});
  conv.groups = layer.groups;
  conv.options.stride = layer.stride;
  conv.options.padding = (layer.kernel - 1) / 2;
  x = graph.add(layer.conv, std::move(conv), {x});
  BatchNormNode norm;
  norm.weight = weights_.get(layer.norm + ".weight", {layer.out});
  norm.bias = weights_.get(layer.norm + ".bias", {layer.out});
  norm.mean = weights_.get(layer.norm + ".running_mean", {layer.out});
  norm.variance = weights_.get(layer.norm + ".running_var", {layer.out});
  x = graph.add(layer.norm, std::move(norm), {x});
  if (layer.activation == Activation()) return x;
  return graph.add(layer.conv + ".act", ActivationNode{layer.activation}, {x});
}

ValueId Builder::add(ValueId a, ValueId b, const std::string& name) {
  return graph.add(name, AddNode{}, {a, b});
}

ValueId Builder::classifier(ValueId x, const std::string& name, std::int64_t in,
                            std::int64_t classes) {
  x = graph.add("global_pool", GlobalAveragePoolNode{}, {x});
  LinearNode linear;
  linear.weight = weights_.get(name + ".weight", {classes, in});
  linear.bias = weights_.get(name + ".bias", {classes});
  return graph.add(name, std::move(linear), {x});
}

}  // namespace sepconv::models
