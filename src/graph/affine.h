#pragma once

#include <cmath>
#include <vector>

#include "sepconv/graph.h"

namespace sepconv {

/// What a norm, or nothing, does to each channel: y = x · scale + shift.
struct Affine {
  /// As it is.
  explicit Affine(std::size_t channels) : scale(channels, 1.0), shift(channels, 0.0) {}
  explicit Affine(const BatchNormNode& norm) {
    for (std::int64_t c = 0; c < norm.mean->shape()[0]; ++c) {
      const double deviation =
          std::sqrt(static_cast<double>(norm.variance->data()[c]) + norm.epsilon);
      scale.push_back(static_cast<double>(norm.weight->data()[c]) / deviation);
      shift.push_back(static_cast<double>(norm.bias->data()[c]) -
                      static_cast<double>(norm.mean->data()[c]) * scale.back());
    }
  }
  std::vector<double> scale, shift;
};

}  // namespace sepconv
