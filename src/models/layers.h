#pragma once

#include <string>

#include "sepconv/models.h"

namespace sepconv::models {

/// Convolution, batch norm and activation, the brick of all these networks.
struct ConvNorm {
  std::string conv, norm;  ///< prefixes of the tensors' names
  std::int64_t in, out;
  Size2d kernel = 1;
  std::int64_t stride = 1, groups = 1;
  Activation activation = {};
  bool unpadded = false;
};

/// Where implementations of one network differ.
struct Flavour {
  bool same_padding = false;  ///< TensorFlow's: the odd pixel below and to the right
  double epsilon = 1e-5;      ///< of batch norms
};

/// Global pooling, two pointwise layers and a scale (Hu et al., "Squeeze-and-Excitation", 2018).
struct SqueezeExcite {
  std::string reduce, expand;  ///< prefixes of the tensors' names
  std::int64_t channels, middle;
  Activation activation, gate;
};

/// Appends layers to a graph, asking for their tensors in the order of the source's state dict.
class Builder {
 public:
  explicit Builder(Weights& weights, Flavour flavour = {}) : weights_(weights), flavour_(flavour) {}

  ValueId conv_norm(ValueId x, const ConvNorm& layer);
  /// The same, depthwise, with a kernel size for each of several ranges of channels: the ranges are
  /// as equal as can be, the first takes the rest (Tan and Le, "MixConv", 2019).
  ValueId mixed_depthwise_norm(ValueId x, const ConvNorm& layer,
                               const std::vector<std::int64_t>& kernels);
  ValueId squeeze_excite(ValueId x, const SqueezeExcite& layer);
  /// weight [out, in, kernel, kernel] (for kernel 1 or [out, in] where `flat`), bias [out]; no
  /// padding but for depthwise kernels.
  ValueId conv_bias(ValueId x, const ConvNorm& layer, bool flat = false);
  ValueId layer_norm(ValueId x, const std::string& name, std::int64_t channels, double epsilon);
  ValueId add(ValueId a, ValueId b, const std::string& name);
  ValueId global_pool(ValueId x, const std::string& name = "global_pool");
  /// weight [out, in], or that with two axes of 1 more, and bias [out].
  ValueId linear(ValueId x, const std::string& name, std::int64_t in, std::int64_t out,
                 const Activation& activation = {}, bool as_convolution = false);

  /// Notes x as the map at this stride, in place of what was noted for it before.
  void end_stage(ValueId x, std::int64_t stride);

  Constant get(const std::string& name, const Shape& shape) { return weights_.get(name, shape); }

  Graph graph;

 private:
  Constant conv_weight(const ConvNorm& layer);
  ValueId norm(ValueId x, const ConvNorm& layer);

  Weights& weights_;
  Flavour flavour_;
  std::int64_t stage_stride_ = 0;
};

}  // namespace sepconv::models
