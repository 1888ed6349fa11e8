#pragma once

#include <vector>

#include "base/sizes.h"
#include "ops/copy_pixels.h"
#include "ops/op_impl.h"

namespace sepconv {

/// x and the sides, each to its channels of the result; others may be there already.
class Concat final : public Op::Impl {
 public:
  struct Part {
    std::int64_t first, count;  ///< channels of the result
  };

  Concat(const Shape& first, const Shape& out, std::vector<Part> parts)
      : Impl(first, out, Layout::kNHWC, false), parts_(std::move(parts)) {}

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte*,
           const ThreadPool& pool) const override {
    const std::size_t pixels = to_size(output[3]), wide = to_size(output[1]);
    pool.parallel_for(to_size(output[0] * output[2]), [&](std::size_t row) {
      for (std::size_t i = 0; i < parts_.size(); ++i) {
        const std::size_t n = to_size(parts_[i].count);
        const float* from = (i == 0 ? x : sides[i - 1]) + row * pixels * n;
        copy_pixels(from, n, y + row * pixels * wide + parts_[i].first, wide, n, pixels);
      }
    });
  }
  std::string describe() const override { return "concat"; }
  double flops() const override { return 0; }

 private:
  std::vector<Part> parts_;
};

}  // namespace sepconv
