#pragma once

namespace sepconv {

/// What a convolution's error is held to: a bound on each element by its own products, as the ops
/// of the public API are, or only a bound on a whole network's result, which lets an op trade
/// products for additions (docs/numerics.md).
enum class ErrorBound { kElement, kNetwork };

}  // namespace sepconv
