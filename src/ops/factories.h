#pragma once

#include <memory>

#include "ops/op_impl.h"

namespace sepconv {

/// The op behind Linear, for those who plan networks.
std::shared_ptr<const Op::Impl> linear_op(const Shape& input, const TensorView& weight,
                                          const TensorView& bias, const Activation& activation);

}  // namespace sepconv
