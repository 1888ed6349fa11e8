#pragma once

#include <memory>

#include "ops/arguments.h"
#include "ops/op_impl.h"
#include "ops/row_op.h"

namespace sepconv {

/// From the output's gradient of one image to the input's, for a forward convolution's arguments;
/// the layout is that of what it reads and writes in the end.
std::shared_ptr<RowOp> input_gradient_rows(const ConvArguments& forward, Layout layout);

/// Of a depthwise convolution; weight [channels][rows.size][columns.size].
std::unique_ptr<RowOp> depthwise_gradient_rows(const ImageShape& input, const ImageShape& output,
                                               const Window2d& window, const float* weight);

/// The same for all images, in either layout; on rows that exist, in NHWC.
std::shared_ptr<const Op::Impl> input_gradient_op(const ConvArguments& forward, Layout layout);
std::shared_ptr<const Op::Impl> input_gradient_op(const ConvArguments& forward, Layout layout,
                                                  std::shared_ptr<RowOp> rows);

}  // namespace sepconv
