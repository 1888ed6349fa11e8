#include "ops/error_bound.h"

#include <algorithm>
#include <cmath>

namespace sepconv {

bool may_trade_products(std::span<const float> weights) {
  const auto zeros = std::count(weights.begin(), weights.end(), 0.0F);
  const bool moderate =
      std::all_of(weights.begin(), weights.end(), [](float w) { return std::abs(w) <= 0x1p50F; });
  return moderate && 4 * zeros <= 3 * static_cast<std::ptrdiff_t>(weights.size());
}

}  // namespace sepconv
