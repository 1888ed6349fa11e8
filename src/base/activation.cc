#include "sepconv/activation.h"

#include <array>
#include <utility>

#include "base/check.h"

namespace sepconv {

namespace {
constexpr std::array<std::pair<std::string_view, ActivationKind>, 14> kNames{{
    {"none", ActivationKind::kNone},
    {"relu", ActivationKind::kRelu},
    {"relu6", ActivationKind::kRelu6},
    {"leaky_relu", ActivationKind::kLeakyRelu},
    {"hardswish", ActivationKind::kHardSwish},
    {"hardsigmoid", ActivationKind::kHardSigmoid},
    {"silu", ActivationKind::kSilu},
    {"gelu", ActivationKind::kGelu},
    {"gelu_tanh", ActivationKind::kGeluTanh},
    {"sigmoid", ActivationKind::kSigmoid},
    {"tanh", ActivationKind::kTanh},
    {"elu", ActivationKind::kElu},
    {"softplus", ActivationKind::kSoftplus},
    {"mish", ActivationKind::kMish},
}};
}  // namespace

Activation Activation::clamp(float lo, float hi) {
  check(lo <= hi, "activation: clamp from {} to {}, expected lo <= hi", lo, hi);
  Activation activation(ActivationKind::kClamp);
  activation.lo = lo;
  activation.hi = hi;
  return activation;
}

Activation Activation::leaky_relu(float slope) {
  Activation activation(ActivationKind::kLeakyRelu);
  activation.slope = slope;
  return activation;
}

Activation Activation::elu(float alpha) {
  Activation activation(ActivationKind::kElu);
  activation.alpha = alpha;
  return activation;
}

Activation Activation::named(std::string_view name) {
  std::string known;
  for (const auto& [known_name, kind] : kNames) {
    if (name == known_name) return kind;
    known += (known.empty() ? "" : ", ") + std::string(known_name);
  }
  throw ArgumentError(fmt::format("activation: got '{}', expected one of {}", name, known));
}

std::string to_string(const Activation& activation) {
  if (activation.kind == ActivationKind::kClamp) {
    return fmt::format("clamp({}, {})", activation.lo, activation.hi);
  }
  if (activation.kind == ActivationKind::kLeakyRelu) {
    return fmt::format("leaky_relu({})", activation.slope);
  }
  if (activation.kind == ActivationKind::kElu) return fmt::format("elu({})", activation.alpha);
  for (const auto& [name, kind] : kNames) {
    if (kind == activation.kind) return std::string(name);
  }
  return "unknown";
}

std::string to_string(Function function) {
  static constexpr std::array kFunctions{"abs", "cos", "exp", "log", "reciprocal", "sin", "sqrt"};
  return kFunctions.at(static_cast<std::size_t>(function));
}

}  // namespace sepconv
