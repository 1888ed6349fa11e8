#pragma once

#include <memory>
#include <string>

#include "kernels/gradients.h"
#include "ops/arguments.h"
#include "sepconv/gradients.h"

namespace sepconv {

/// Told of every row of dY once, while it is in the cache.
struct RowVisitor {
  /// Rows of one image; calls with the same `slot` come one after the other.
  virtual void visit(std::size_t image, RowRange rows, std::size_t slot) const = 0;

 protected:
  ~RowVisitor() = default;
};

/// What stands behind a Conv2dWeightGradient: pointers in, no checks.
struct Conv2dWeightGradient::Impl {
  ConvGeometry geometry;
  Shape weight;
  Layout layout;
  const GradientKernels* kernels = &gradient_kernels();

  Impl(const ConvGeometry& g, const Shape& w, Layout l) : geometry(g), weight(w), layout(l) {}
  virtual ~Impl() = default;
  virtual std::size_t workspace_bytes(int threads) const = 0;
  /// `visitor` may be null, and is where visits() says no.
  virtual void run(const float* x, const float* dy, float* dw, std::byte* workspace,
                   const ThreadPool& pool, const RowVisitor* visitor) const = 0;
  /// Whether a visitor is told; how many slots it sees then, and how many rows at most at once.
  virtual bool visits(int threads) const = 0;
  virtual std::size_t slots(int threads) const = 0;
  virtual std::int64_t rows_at_once() const = 0;
  /// The images, as a visitor sees them.
  virtual ConvGeometry seen() const { return geometry; }
  virtual std::string describe() const = 0;
};

using WeightGradient = std::shared_ptr<const Conv2dWeightGradient::Impl>;

/// As Conv2dWeightGradient's constructor.
WeightGradient weight_gradient(const Shape& input, const Shape& weight,
                               const Conv2dOptions& options, std::int64_t groups, Layout layout);
/// For weights [C, 1, kh, kw] with C groups.
WeightGradient depthwise_weight_gradient(const ConvGeometry& g, const Shape& weight, Layout layout);
/// Sums of products by image, [images][blocks][taps][lanes], where a block is a vector of channels.
struct ImageSums {
  std::size_t images, channels, taps, lanes;
};
/// Adds the images up for one block, in order, in place of the first's, and moves them to dw,
/// [channels][taps].
void join_images(const ImageSums& sums, std::size_t block, float* partial, float* dw);
/// For weights [Cout, C, 1, 1], stride 1, without padding.
WeightGradient pointwise_weight_gradient(const ConvGeometry& g, const Shape& weight, Layout layout);

}  // namespace sepconv
