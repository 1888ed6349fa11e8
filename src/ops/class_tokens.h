#pragma once

#include <vector>

#include "kernels/elementwise.h"
#include "ops/op_impl.h"

namespace sepconv {

/// Patches [N, C, h, w] to tokens [N, C, 1 + h·w, 1]: a class token before them, and to each its
/// position's embedding (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, equation 1).
class ClassTokens final : public Op::Impl {
 public:
  /// token [C]; positions [1 + grid², C]. Another grid than the image's is resampled by an
  /// antialiased bicubic filter, as timm does.
  ClassTokens(const Shape& input, const float* token, const float* positions, std::int64_t grid);

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override { return "class token and positions"; }
  double flops() const override { return static_cast<double>(output.elements()); }

 private:
  std::vector<float> first_;      ///< token + its position
  std::vector<float> positions_;  ///< of the patches, [h·w][C]
  const ElementwiseKernels* kernels_;
};

}  // namespace sepconv
