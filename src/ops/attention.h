#pragma once

#include <optional>

#include "base/aligned.h"
#include "kernels/gemm.h"
#include "kernels/vector_math.h"
#include "ops/amx_product.h"
#include "ops/op_impl.h"

namespace sepconv {

/// Multi-head self-attention (Vaswani et al., 2017): for each head, softmax(Q·Kᵀ / √d)·V.
///
/// The input holds Q, K and V of a token one after the other, [N, 3·C, T, 1]; the result is
/// [N, C, T, 1]. Keys and values of a head are packed as panels for the GEMM microkernel, and a few
/// queries at a time pass over them, so that only their rows of the T × T matrix exist.
class Attention final : public Op::Impl {
 public:
  /// Throws ArgumentError if the channels are no multiple of 3 · heads.
  Attention(const Shape& input, std::int64_t heads);

  std::size_t workspace_bytes(int threads) const override;
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override;
  double flops() const override;

 private:
  struct Panels;

  std::size_t thread_bytes() const;
  void pack_keys(const float* keys, float* panels) const;
  void pack_values(const float* values, float* panels) const;
  std::size_t product_bytes() const;
  void multiply(const Panels& b, const float* a, std::size_t a_step, std::size_t rows, float* c,
                std::size_t c_step, std::byte* workspace) const;
  void multiply_by_fma(GemmTile tile, const float* a, std::size_t rows, float* c,
                       float* sums) const;
  void run_head(const float* x, float* y, std::byte* workspace) const;

  std::size_t heads_, tokens_, depth_;  ///< depth_: channels of a head
  std::size_t padded_;                  ///< floats of a row of scores
  std::size_t wide_depth_;              ///< depth_ in whole panels
  std::size_t queries_;                 ///< at a time
  const GemmKernels* gemm_;
  std::optional<AmxSet> amx_;
  const VectorMathKernels* math_;
  AlignedArray<float> no_bias_;
};

}  // namespace sepconv
