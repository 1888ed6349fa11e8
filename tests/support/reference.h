#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>
#include <utility>
#include <vector>

#include "sepconv/ops.h"

namespace sepconv::testing {

/// What a convolution should give, and the sum of the magnitudes that went into it.
struct Exact {
  std::vector<double> value, magnitude;
};

inline float& at(const TensorView& t, std::int64_t n, std::int64_t c, std::int64_t h,
                 std::int64_t w) {
  return t.floats()[n * t.stride(0) + c * t.stride(1) + h * t.stride(2) + w * t.stride(3)];
}

/// The definition as nested loops in double; results in NCHW order.
inline Exact convolve(const TensorView& x, const TensorView& weight, const float* bias,
                      const Conv2dOptions& o, std::int64_t groups, const Shape& out) {
  Exact exact;
  const Shape& w = weight.shape();
  const std::int64_t per_group = out[1] / groups;
  for (std::int64_t n = 0; n < out[0]; ++n)
    for (std::int64_t c = 0; c < out[1]; ++c)
      for (std::int64_t i = 0; i < out[2]; ++i)
        for (std::int64_t j = 0; j < out[3]; ++j) {
          double sum = bias ? bias[c] : 0.0, size = std::abs(sum);
          for (std::int64_t k = 0; k < w[1]; ++k)
            for (std::int64_t u = 0; u < w[2]; ++u)
              for (std::int64_t v = 0; v < w[3]; ++v) {
                const std::int64_t h = i * o.stride.height + u * o.dilation.height - o.padding.top;
                const std::int64_t l = j * o.stride.width + v * o.dilation.width - o.padding.left;
                if (h < 0 || h >= x.shape()[2] || l < 0 || l >= x.shape()[3]) continue;
                const double product =
                    static_cast<double>(at(x, n, c / per_group * w[1] + k, h, l)) *
                    static_cast<double>(at(weight, c, k, u, v));
                sum += product;
                size += std::abs(product);
              }
          exact.value.push_back(sum);
          exact.magnitude.push_back(size);
        }
  return exact;
}

/// The bound of docs/numerics.md for n products.
inline double bound(double magnitude, std::int64_t n) {
  return 2.0 * static_cast<double>(n) * 0x1p-23 * magnitude;
}

inline void fill(float* p, std::int64_t n, std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (std::int64_t i = 0; i < n; ++i) p[i] = normal(random);
}

inline Tensor random_tensor(const Shape& shape, std::mt19937& random,
                            Layout layout = Layout::kNCHW) {
  Tensor t(shape, layout);
  fill(t.data(), shape.elements(), random);
  return t;
}

inline constexpr ActivationKind kActivations[] = {
    ActivationKind::kNone,      ActivationKind::kRelu,    ActivationKind::kRelu6,
    ActivationKind::kHardSwish, ActivationKind::kSilu,    ActivationKind::kGelu,
    ActivationKind::kGeluTanh,  ActivationKind::kSigmoid, ActivationKind::kHardSigmoid,
    ActivationKind::kLeakyRelu, ActivationKind::kTanh,    ActivationKind::kElu,
    ActivationKind::kSoftplus,  ActivationKind::kMish};

/// An activation and its derivative.
inline std::pair<double, double> activated(ActivationKind kind, double z) {
  const double s = 1 / (1 + std::exp(-z));
  switch (kind) {
    case ActivationKind::kRelu:
      return {std::max(z, 0.0), z > 0 ? 1 : 0};
    case ActivationKind::kRelu6:
      return {std::clamp(z, 0.0, 6.0), z > 0 && z < 6 ? 1 : 0};
    case ActivationKind::kLeakyRelu:  // of the default slope
      return {z < 0 ? 0.01 * z : z, z > 0 ? 1 : 0.01};
    case ActivationKind::kSilu:
      return {z * s, s * (1 + z * (1 - s))};
    case ActivationKind::kHardSwish:
      return {z * std::clamp(z + 3, 0.0, 6.0) / 6, z <= -3 ? 0 : z > 3 ? 1 : z / 3 + 0.5};
    case ActivationKind::kSigmoid:
      return {s, s * (1 - s)};
    case ActivationKind::kHardSigmoid:
      return {std::clamp(z + 3, 0.0, 6.0) / 6, std::abs(z) < 3 ? 1.0 / 6 : 0};
    case ActivationKind::kGelu: {
      const double phi = 0.5 * std::erfc(-z / std::sqrt(2.0));
      return {z * phi, phi + z * std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi)};
    }
    case ActivationKind::kGeluTanh: {
      const double scale = std::sqrt(2 / std::numbers::pi);
      const double t = std::tanh(scale * (z + 0.044715 * z * z * z));
      const double slope = scale * (1 + 3 * 0.044715 * z * z) * (1 - t * t);
      return {z / 2 * (1 + t), (1 + t + z * slope) / 2};
    }
    case ActivationKind::kTanh:
      return {std::tanh(z), 1 - std::tanh(z) * std::tanh(z)};
    case ActivationKind::kElu:  // of the default alpha
      return {z < 0 ? std::expm1(z) : z, z < 0 ? std::exp(z) : 1};
    case ActivationKind::kSoftplus:
      return {std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z))), s};
    case ActivationKind::kMish: {
      const double t = std::tanh(std::log1p(std::exp(z)));
      return {z * t, t + z * s * (1 - t * t)};
    }
    default:
      return {z, 1};
  }
}

}  // namespace sepconv::testing
