#pragma once

#include <cstring>
#include <vector>

#include "base/sizes.h"
#include "ops/op_impl.h"

namespace sepconv {

/// x and the sides, pixel by pixel one after the other along the channels.
class Concat final : public Op::Impl {
 public:
  Concat(const std::vector<Shape>& parts, const Shape& out)
      : Impl(parts.front(), out, Layout::kNHWC, false) {
    for (const Shape& part : parts) channels_.push_back(to_size(part[1]));
  }

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte*,
           const ThreadPool& pool) const override {
    const std::size_t pixels = to_size(output[2] * output[3]), wide = to_size(output[1]);
    pool.parallel_for(to_size(output[0]), [&](std::size_t image) {
      std::size_t at = 0;
      for (std::size_t i = 0; i < channels_.size(); ++i) {
        const std::size_t n = channels_[i];
        const float* from = (i == 0 ? x : sides[i - 1]) + image * pixels * n;
        float* to = y + image * pixels * wide + at;
        for (std::size_t p = 0; p < pixels; ++p) {
          std::memcpy(to + p * wide, from + p * n, n * sizeof(float));
        }
        at += n;
      }
    });
  }
  std::string describe() const override { return "concat"; }
  double flops() const override { return 0; }

 private:
  std::vector<std::size_t> channels_;
};

}  // namespace sepconv
