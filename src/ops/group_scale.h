#pragma once

#include <vector>

#include "ops/moments.h"
#include "ops/op_impl.h"

namespace sepconv {

/// What makes a group norm of images, a factor and an addend for each channel (Wu and He, "Group
/// Normalization", 2018, equations 1 to 7): [N, C, H, W] to [N, 2C]. It reads its input once from
/// where that lies, and each part of it again from L1 or L2.
class GroupScale final : public Op::Impl {
 public:
  /// weight and bias: [C].
  GroupScale(const Shape& input, const float* weight, const float* bias, std::int64_t groups,
             double epsilon);

  std::size_t workspace_bytes(int threads) const override;
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override;
  double flops() const override { return 4.0 * static_cast<double>(input.elements()); }

 private:
  void join_groups(const float* mean, const float* variance, float* factors, float* addends) const;

  std::vector<float> weight_, bias_;
  std::size_t groups_;
  double epsilon_;
  Moments moments_;  ///< of one image
};

}  // namespace sepconv
