#include "graph/plan.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/cpu.h"
#include "kernels/vector_math.h"
#include "ops/arguments.h"
#include "ops/chain_op.h"
#include "ops/pool_rows.h"

namespace sepconv {

namespace {

ImageShape image(const Shape& s) { return {s[2], s[3], s[1]}; }

std::shared_ptr<const RowOp> conv_rows(const Conv2dNode& n, const Shape& input) {
  Conv2dOptions options = n.options;
  const Shape& w = n.weight->shape();
  if (n.same_padding) {
    options.padding =
        Padding::same({input[2], input[3]}, {w[2], w[3]}, options.stride, options.dilation);
  }
  const TensorView bias = n.bias ? n.bias->view() : TensorView();
  return conv_row_op(conv_arguments(input, n.weight->view(), bias, options, n.groups), options);
}

std::shared_ptr<const RowOp> pool_rows(const Pool2dNode& n, const Shape& in, const Shape& out) {
  const Pool2dOptions& o = n.options;
  const Window2d window{{o.kernel.height, o.stride.height, 1, o.padding.top},
                        {o.kernel.width, o.stride.width, 1, o.padding.left}};
  return std::make_shared<PoolRows>(image(in), image(out), window, o.kind_or(n.kind),
                                    o.count_include_pad);
}

}  // namespace

}  // namespace sepconv
