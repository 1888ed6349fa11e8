#pragma once

#include "ops/chain.h"
#include "ops/layout_change.h"
#include "ops/op_impl.h"

namespace sepconv {

/// A chain as an Op: NHWC as it is, NCHW through NHWC copies in the workspace.
struct ChainOp final : Op::Impl {
  ChainOp(const Shape& in, const Shape& out, Layout l, bool has_residual, Chain c);

  std::size_t workspace_bytes(int threads) const override;
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  void run_keeping(const float* x, std::span<const float* const> sides, float* y, float* kept,
                   std::byte* workspace, const ThreadPool& pool) const override;
  /// As Chain has them.
  std::size_t thread_bytes() const { return chain_.thread_bytes(); }
  void space_threads(std::size_t bytes) { chain_.space_threads(bytes); }
  std::string describe() const override;
  double flops() const override;

 private:
  Chain chain_;
  LayoutChange layouts_;
};

}  // namespace sepconv
