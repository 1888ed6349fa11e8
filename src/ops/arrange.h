#pragma once

#include <vector>

#include "ops/op_impl.h"

namespace sepconv {

/// Copies an image's axes into another order.
class Arrange final : public Op::Impl {
 public:
  /// `order`: axes of `in`, which lies in NHWC, as they follow each other in the result; those that
  /// are missing have size 1.
  Arrange(const Shape& in, const Shape& out, const std::vector<int>& order)
      : Impl(in, out, Layout::kNHWC, false) {
    std::vector<std::int64_t> dims;
    const auto strides = dense_strides(in, Layout::kNHWC);
    for (std::size_t i = 0; i < order.size(); ++i) {
      dims.push_back(in[order[i]]);
      strides_[i] = strides[static_cast<std::size_t>(order[i])];
    }
    axes_ = Shape(dims.data(), static_cast<int>(dims.size()));
  }

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const float* x, std::span<const float* const>, float* y, std::byte*,
           const ThreadPool&) const override {
    copy(TensorView(const_cast<float*>(x), axes_, strides_, DType::kFloat32),
         TensorView(y, axes_, Layout::kNCHW));
  }
  std::string describe() const override { return "arrange"; }
  double flops() const override { return 0; }

 private:
  Shape axes_;
  std::array<std::int64_t, Shape::kMaxRank> strides_{};
};

}  // namespace sepconv
