#include "base/check.h"
#include "kernels/vector_math.h"
#include "ops/factories.h"

namespace sepconv {

namespace {

struct SoftmaxOp final : Op::Impl {
  explicit SoftmaxOp(const Shape& shape) : Impl(shape, shape, Layout::kNCHW, false) {}

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const float* x, std::span<const float* const>, float* y, std::byte*,
           const ThreadPool& pool) const override {
    const std::size_t n = static_cast<std::size_t>(input[1]);
    pool.parallel_for(static_cast<std::size_t>(input[0]),
                      [&](std::size_t i) { kernels->softmax(x + i * n, y + i * n, n); });
  }
  std::string describe() const override { return "softmax"; }
  double flops() const override { return 5.0 * static_cast<double>(input.elements()); }

  const VectorMathKernels* kernels = &vector_math_kernels();
};

}  // namespace

std::shared_ptr<const Op::Impl> softmax_op(const Shape& input) {
  check(input.rank() == 2 && input[1] > 0, "x: shape is {}, expected [N, classes]",
        to_string(input));
  return std::make_shared<SoftmaxOp>(input);
}

Softmax::Softmax(const Shape& input) : Op(softmax_op(input)) {}

}  // namespace sepconv
