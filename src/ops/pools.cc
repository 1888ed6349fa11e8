#include "base/check.h"
#include "ops/arguments.h"
#include "ops/chain_op.h"
#include "ops/pool_rows.h"

namespace sepconv {

namespace {

std::shared_ptr<const Op::Impl> pool_op(const Shape& input, Pool kind, const Pool2dOptions& o,
                                        Layout layout) {
  check(input.rank() == 4 && input[1] > 0 && input[2] > 0 && input[3] > 0,
        "x: shape is {}, expected [N, C, H, W] with C, H and W above 0", to_string(input));
  const Shape output = window_output(input, input[1], o.kernel, o.stride, o.padding, 1);
  const Padding& p = o.padding;
  check(p.top < o.kernel.height && p.bottom < o.kernel.height && p.left < o.kernel.width &&
            p.right < o.kernel.width,
        "padding: got {}, {}, {}, {}, expected less than the kernel's {}x{}", p.top, p.bottom,
        p.left, p.right, o.kernel.height, o.kernel.width);
  const Window2d window{{o.kernel.height, o.stride.height, 1, p.top},
                        {o.kernel.width, o.stride.width, 1, p.left}};
  auto rows = std::make_shared<PoolRows>(ImageShape{input[2], input[3], input[1]},
                                         ImageShape{output[2], output[3], output[1]}, window, kind,
                                         o.count_include_pad);
  return std::make_shared<ChainOp>(input, output, layout, false, Chain({{std::move(rows)}}));
}

Pool2dOptions whole(const Shape& input) {
  check(input.rank() == 4, "x: shape is {}, expected [N, C, H, W]", to_string(input));
  Pool2dOptions options;
  options.kernel = options.stride = Size2d(input[2], input[3]);
  return options;
}

}  // namespace

Pool2d::Pool2d(const Shape& input, Pool kind, const Pool2dOptions& options, Layout layout)
    : Op(pool_op(input, kind, options, layout)) {}

GlobalAveragePool::GlobalAveragePool(const Shape& input, Layout layout)
    : Op(pool_op(input, Pool::kAverage, whole(input), layout)) {}

}  // namespace sepconv
