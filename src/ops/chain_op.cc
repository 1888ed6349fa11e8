#include "ops/chain_op.h"

#include "base/aligned.h"

namespace sepconv {

namespace {
std::size_t float_bytes(const Shape& shape) {
  return static_cast<std::size_t>(shape.elements()) * sizeof(float);
}
}  // namespace

ChainOp::ChainOp(const Shape& in, const Shape& out, Layout l, bool has_residual, Chain c)
    : Impl(in, out, l, has_residual), chain_(std::move(c)) {}

std::size_t ChainOp::workspace_bytes(int threads) const {
  std::size_t bytes = chain_.workspace_bytes(threads);
  if (layout == Layout::kNCHW) {
    bytes += align_up(float_bytes(input)) + (residual ? 2 : 1) * align_up(float_bytes(output));
  }
  return bytes;
}

void ChainOp::run(const float* x, std::span<const float* const> sides, float* y,
                  std::byte* workspace, const ThreadPool& pool) const {
  if (layout == Layout::kNHWC) {
    run_keeping(x, sides, y, nullptr, workspace, pool);
    return;
  }
  const auto nchw = [](const float* p, const Shape& shape) {
    return TensorView(const_cast<float*>(p), shape, Layout::kNCHW);
  };
  Carver carver(workspace);
  const auto carve = [&](const Shape& shape) {
    return TensorView(carver.take<float>(static_cast<std::size_t>(shape.elements())), shape,
                      Layout::kNHWC);
  };
  const TensorView in = carve(input), out = carve(output);
  copy(nchw(x, input), in);
  const float* second = nullptr;
  if (residual) {
    const TensorView from = carve(output);
    copy(nchw(sides[0], output), from);
    second = from.floats();
  }
  chain_.run(input[0], in.floats(), std::span(&second, residual ? 1 : 0), out.floats(),
             carver.rest(), pool);
  copy(out, nchw(y, output));
}

void ChainOp::run_keeping(const float* x, std::span<const float* const> sides, float* y,
                          float* kept, std::byte* workspace, const ThreadPool& pool) const {
  chain_.run(input[0], x, sides, y, workspace, pool, kept);
}

std::string ChainOp::describe() const {
  std::string text;
  for (const Chain::Stage& s : chain_.stages()) {
    text += (text.empty() ? "" : " > ") + s.op->describe();
  }
  return text;
}

double ChainOp::flops() const { return chain_.flops() * static_cast<double>(input[0]); }

}  // namespace sepconv
