#pragma once

#include "kernels/transpose.h"
#include "sepconv/tensor.h"
#include "sepconv/threads.h"

namespace sepconv {

/// Moves dense float32 images of a shape [N, C, H, W] between NCHW and NHWC memory.
class LayoutChange {
 public:
  void to_nhwc(const Shape& shape, const float* x, float* y, const ThreadPool& pool) const;
  void to_nchw(const Shape& shape, const float* x, float* y, const ThreadPool& pool) const;

 private:
  template <class Move>
  void for_parts(const Shape& shape, const ThreadPool& pool, const Move& move) const;
  void interleave(const Shape& shape, const float* x, float* y, const ThreadPool& pool) const;

  const TransposeKernels* kernels_ = &transpose_kernels();
};

}  // namespace sepconv
