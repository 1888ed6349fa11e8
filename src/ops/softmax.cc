#include "base/check.h"
#include "ops/chain_op.h"
#include "ops/softmax_rows.h"

namespace sepconv {

namespace {

std::shared_ptr<const Op::Impl> softmax_op(const Shape& input) {
  check(input.rank() == 2 && input[1] > 0, "x: shape is {}, expected [N, classes]",
        to_string(input));
  Chain chain({{std::make_shared<SoftmaxRows>(ImageShape{1, 1, input[1]}, false)}});
  return std::make_shared<ChainOp>(input, input, Layout::kNHWC, false, std::move(chain));
}

}  // namespace

Softmax::Softmax(const Shape& input) : Op(softmax_op(input)) {}

}  // namespace sepconv
