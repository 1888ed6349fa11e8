#pragma once

#include <span>

namespace sepconv {

/// What a convolution's error is held to: a bound on each element by its own products, as the ops
/// of the public API are, or only a bound on a whole network's result, which lets an op trade
/// products for additions (docs/numerics.md).
enum class ErrorBound { kElement, kNetwork };

/// Whether that leaves a network's result as exact: not with weights that are not finite, or huge,
/// and not with those that are mostly zeros, which may copy values.
bool may_trade_products(std::span<const float> weights);

}  // namespace sepconv
