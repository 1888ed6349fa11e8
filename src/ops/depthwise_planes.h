#pragma once

#include <vector>

#include "kernels/depthwise.h"
#include "ops/arguments.h"
#include "ops/op_impl.h"

namespace sepconv {

/// Depthwise convolution in NCHW, a plane at a time: the plane's rows are copied with their padding
/// and split into the stride's phases, so that every tap reads consecutive floats.
struct DepthwisePlanes final : Op::Impl {
  DepthwisePlanes(ConvArguments a, const Activation& activation);

  std::size_t workspace_bytes(int threads) const override;
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override;
  double flops() const override;

 private:
  std::size_t thread_bytes() const;
  void pad_plane(const float* plane, float* padded) const;
  void run_plane(const float* plane, std::int64_t channel, float* y, std::byte* workspace) const;

  ConvArguments a_;
  Epilogue epilogue_;
  const DepthwiseNchwKernels* kernels_;
  std::size_t phase_floats_, row_floats_;  ///< of a padded row: one phase, all phases
  std::vector<std::size_t> tap_offset_;
};

}  // namespace sepconv
