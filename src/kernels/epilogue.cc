#include "kernels/epilogue.h"

namespace sepconv {

Epilogue::Epilogue(const Activation& activation) {
  switch (activation.kind) {
    case ActivationKind::kNone:
      break;
    case ActivationKind::kRelu:
      lo = 0;
      break;
    case ActivationKind::kRelu6:
      lo = 0;
      hi = 6;
      break;
    case ActivationKind::kClamp:
      lo = activation.lo;
      hi = activation.hi;
      break;
    default:
      kind = activation.kind;
      slope = activation.slope;
      alpha = activation.alpha;
  }
}

}  // namespace sepconv
