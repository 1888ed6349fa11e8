#pragma once

#include <cstddef>
#include <limits>

#include "sepconv/activation.h"

namespace sepconv {

/// What a kernel does to its sums before it stores them. The cheap activations are all one clamp,
/// which is always applied (to infinity where there is none); `kind` names one that needs more
/// arithmetic, or is kNone.
struct Epilogue {
  float lo = -std::numeric_limits<float>::infinity();
  float hi = std::numeric_limits<float>::infinity();
  ActivationKind kind = ActivationKind::kNone;
  float slope = 0;              ///< kLeakyRelu only
  float alpha = 0;              ///< kElu only
  bool residual_first = false;  ///< add the residual before the activation, not after it

  Epilogue() = default;
  explicit Epilogue(const Activation& activation);

  bool clamps() const {
    return lo > -std::numeric_limits<float>::infinity() ||
           hi < std::numeric_limits<float>::infinity();
  }
};

}  // namespace sepconv
