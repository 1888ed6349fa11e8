#pragma once

#include <optional>
#include <vector>

#include "base/aligned.h"
#include "kernels/gemm.h"
#include "kernels/norms.h"
#include "ops/amx_product.h"
#include "ops/op_impl.h"
#include "sepconv/attention.h"

namespace sepconv {

/// Multi-head attention (Vaswani et al., 2017) over the pixels of images as tokens: for each head,
/// softmax(scale · Q·Kᵀ + bias)·V.
///
/// Inputs are the value [N, ·, Hq, Wq] that holds the queries and, as sides, those that hold keys
/// and values, [N, ·, Hk, Wk]; they may be one. The result is [N, heads · v.count, Hq, Wq]. Keys
/// and values of a head in a window are packed as panels for the GEMM microkernel, and a few
/// queries at a time pass over them, so that only their rows of the matrix of scores exist.
class Attention final : public Op::Impl {
 public:
  /// bias: [heads, queries, keys] of a window, or null. The shapes and heads are those of a graph
  /// that infer_shapes has accepted.
  Attention(const Shape& queries, const Shape& keys, const Shape& values,
            const AttentionHeads& heads, const AttentionWindow& window, const float* bias);

  std::size_t workspace_bytes(int threads) const override;
  void run(const float* q, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override;
  double flops() const override;

 private:
  struct Panels;
  // Where tokens lie: pixels counted from a window's first one, and these in an image.
  struct Windows {
    Windows(const Shape& of, const AttentionWindow& window);

    std::size_t pixels;  ///< of an image
    std::vector<std::size_t> tokens, first;
  };
  // Of one head in one window: pixels `step` floats apart.
  struct Source {
    Source(const Shape& of, const HeadChannels& channels, const AttentionWindow& window);
    const float* head(const float* x, std::size_t image, std::size_t window,
                      std::size_t head) const;
    std::size_t tokens() const { return windows.tokens.size(); }
    const float* token(const float* head, std::size_t t) const {
      return head + windows.tokens[t] * step;
    }

    Windows windows;
    std::size_t step, depth;
    HeadChannels channels;
  };
  // Rows of scores and of what is added to them, as long as padded_.
  struct Head {
    const float *q, *k, *v, *bias;
    float* y;
  };

  std::size_t thread_bytes() const;
  void pack_keys(const float* keys, float* panels) const;
  void pack_values(const float* values, float* panels) const;
  std::size_t product_bytes() const;
  void multiply(const Panels& b, const PixelRun& rows, std::size_t a_step, std::size_t c_step,
                std::byte* workspace) const;
  void multiply_by_fma(GemmTile tile, const PixelRun& rows, std::size_t column, float* sums) const;
  void collect(const float* queries, std::size_t first, std::size_t rows, float* to) const;
  void spread(const float* results, std::size_t first, std::size_t rows, float* y) const;
  void run_head(const Head& head, std::byte* workspace) const;
  bool has_windows() const { return q_.windows.first.size() > 1; }

  std::size_t heads_;
  Source q_, k_, v_;
  float scale_;
  std::size_t padded_;      ///< floats of a row of scores
  std::size_t wide_depth_;  ///< a value's channels in whole panels
  std::size_t queries_;     ///< at a time
  const GemmKernels* gemm_;
  std::optional<AmxSet> amx_;
  const NormKernels* math_;
  AlignedArray<float> no_bias_, bias_;
};

}  // namespace sepconv
