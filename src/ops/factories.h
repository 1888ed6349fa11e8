#pragma once

#include <memory>

#include "ops/error_bound.h"
#include "ops/op_impl.h"
#include "ops/packed_weights.h"

namespace sepconv {

/// The op behind Linear, for those who plan networks.
std::shared_ptr<const Op::Impl> linear_op(const Shape& input, const Shape& weight,
                                          const LayerWeights& weights, const Activation& activation,
                                          ErrorBound bound);

}  // namespace sepconv
