#pragma once

#include <string>
#include <string_view>

namespace sepconv {

/// An element-wise function that an op may apply to its result before storing it.
enum class ActivationKind {
  kNone,
  kRelu,         ///< max(x, 0)
  kRelu6,        ///< min(max(x, 0), 6)
  kClamp,        ///< min(max(x, lo), hi)
  kLeakyRelu,    ///< x, or slope · x below 0 (Maas et al., 2013)
  kHardSwish,    ///< x · relu6(x + 3) / 6 (Howard et al., "Searching for MobileNetV3", 2019)
  kHardSigmoid,  ///< relu6(x + 3) / 6
  kSilu,         ///< x / (1 + exp(−x)) (Elfwing et al., 2017)
  kGelu,         ///< x/2 · (1 + erf(x/√2)) (Hendrycks and Gimpel, 2016)
  kGeluTanh,     ///< x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))), the same paper's approximation
  kSigmoid,      ///< 1 / (1 + exp(−x))
  kTanh,         ///< tanh x
  kElu,          ///< x, or alpha · (exp x − 1) below 0 (Clevert et al., 2015)
  kSoftplus,     ///< log(1 + exp x) (Dugas et al., 2000)
  kMish,         ///< x · tanh(softplus(x)) (Misra, 2019)
};

/// NaN passes through every activation.
struct Activation {
  ActivationKind kind = ActivationKind::kNone;
  float lo = 0;         ///< kClamp only
  float hi = 0;         ///< kClamp only
  float slope = 0.01F;  ///< kLeakyRelu only
  float alpha = 1;      ///< kElu only

  Activation() = default;
  Activation(ActivationKind k) : kind(k) {}  // NOLINT(google-explicit-constructor)
  /// Throws ArgumentError unless lo ≤ hi.
  static Activation clamp(float lo, float hi);
  static Activation leaky_relu(float slope);
  static Activation elu(float alpha);
  /// From "relu", "relu6", "leaky_relu" (of slope 0.01), "hardswish", "silu", "gelu",
  /// "gelu_tanh", "sigmoid", "hardsigmoid", "tanh", "elu" (of alpha 1), "softplus", "mish" or
  /// "none"; throws ArgumentError for another name.
  static Activation named(std::string_view name);
  bool operator==(const Activation&) const = default;
};

std::string to_string(const Activation& activation);

/// An elementary function that is no activation.
enum class Function { kAbs, kCos, kExp, kLog, kReciprocal, kSin, kSqrt };

std::string to_string(Function function);

}  // namespace sepconv
