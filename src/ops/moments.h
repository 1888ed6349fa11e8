#pragma once

#include <cstddef>

#include "kernels/reductions.h"
#include "ops/pixel_parts.h"
#include "sepconv/threads.h"

namespace sepconv {

/// Mean and variance of every channel over pixels of dense channels. Pixels come in parts that stay
/// in L1 or L2 for a second look, each with sums of its own; the parts' are joined in order, in
/// double.
class Moments {
 public:
  /// Pixels [first, first + count).
  struct Part {
    std::size_t first, count;
  };

  Moments(std::size_t pixels, std::size_t channels) : pixels_(pixels), channels_(channels) {}

  std::size_t pixels() const { return pixels_; }
  std::size_t channels() const { return channels_; }
  std::size_t parts() const;
  Part part(std::size_t i) const;

  /// A row has a number for each channel.
  std::size_t row_bytes() const;
  float* row(std::byte* workspace, std::size_t i) const;
  /// For sums over the parts: two rows of doubles, one after the other, behind these.
  double* totals(std::byte* workspace) const;
  /// Two rows for each part, and those of doubles.
  std::size_t workspace_bytes() const { return (2 * parts() + 4) * row_bytes(); }

  void run(const float* x, float* mean, float* variance, std::byte* workspace,
           const ThreadPool& pool) const;

 private:
  void join(std::byte* workspace, float* mean, float* variance) const;

  std::size_t pixels_, channels_;
  const ReductionKernels* kernels_ = &reduction_kernels();
};

}  // namespace sepconv
