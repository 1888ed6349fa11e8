#pragma once

#include <memory>
#include <string>

#include "kernels/gradients.h"
#include "ops/arguments.h"
#include "sepconv/gradients.h"

namespace sepconv {

/// What stands behind a Conv2dWeightGradient: pointers in, no checks.
struct Conv2dWeightGradient::Impl {
  ConvGeometry geometry;
  Shape weight;
  Layout layout;
  const GradientKernels* kernels = &gradient_kernels();

  Impl(const ConvGeometry& g, const Shape& w, Layout l) : geometry(g), weight(w), layout(l) {}
  virtual ~Impl() = default;
  virtual std::size_t workspace_bytes(int threads) const = 0;
  virtual void run(const float* x, const float* dy, float* dw, std::byte* workspace,
                   const ThreadPool& pool) const = 0;
  virtual std::string describe() const = 0;
};

using WeightGradient = std::shared_ptr<const Conv2dWeightGradient::Impl>;

/// For weights [C, 1, kh, kw] with C groups.
WeightGradient depthwise_weight_gradient(const ConvGeometry& g, const Shape& weight, Layout layout);
/// For weights [Cout, C, 1, 1], stride 1, without padding.
WeightGradient pointwise_weight_gradient(const ConvGeometry& g, const Shape& weight, Layout layout);

}  // namespace sepconv
