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
  Carver carver(workspace);
  const auto carve = [&](const Shape& shape) {
    return carver.take<float>(static_cast<std::size_t>(shape.elements()));
  };
  float *in = carve(input), *out = carve(output);
  layouts_.to_nhwc(input, x, in, pool);
  float* second = residual ? carve(output) : nullptr;
  if (residual) layouts_.to_nhwc(output, sides[0], second, pool);
  const float* seconds[] = {second};
  chain_.run(input[0], in, std::span(seconds, residual ? 1 : 0), out, carver.rest(), pool);
  layouts_.to_nchw(output, out, y, pool);
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
