#pragma once

#include <string>

#include "sepconv/models.h"

namespace sepconv::models {

/// Convolution, batch norm and activation, the brick of all these networks.
struct ConvNorm {
  std::string conv, norm;  ///< prefixes of the tensors' names
  std::int64_t in, out, kernel = 1, stride = 1, groups = 1;
  Activation activation;
};

/// Appends layers to a graph, asking for their tensors in the order of the source's state dict.
class Builder {
 public:
  explicit Builder(Weights& weights) : weights_(weights) {}

  ValueId conv_norm(ValueId x, const ConvNorm& layer);
  ValueId add(ValueId a, ValueId b, const std::string& name);
  ValueId classifier(ValueId x, const std::string& name, std::int64_t in, std::int64_t classes);

  Graph graph;

 private:
  Weights& weights_;
};

}  // namespace sepconv::models
