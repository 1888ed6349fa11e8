#pragma once

#include <memory>

#include "ops/op_impl.h"

namespace sepconv {

/// The ops behind Linear and Softmax, for those who plan networks.
std::shared_ptr<const Op::Impl> linear_op(const Shape& input, const TensorView& weight,
                                          const TensorView& bias, const Activation& activation);
std::shared_ptr<const Op::Impl> softmax_op(const Shape& input);

}  // namespace sepconv
