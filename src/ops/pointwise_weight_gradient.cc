#include <fmt/format.h>

#include <algorithm>

#include "base/aligned.h"
#include "base/sizes.h"
#include "ops/layout_change.h"
#include "ops/weight_gradient.h"

namespace sepconv {

namespace {

// dW = dYᵀ·X over all pixels, some of them at a time so that X's columns stay in L1 while all rows
// of dW pass.
struct PointwiseGradient final : Conv2dWeightGradient::Impl {
  static constexpr std::size_t kPixels = 256;
  LayoutChange layouts;

  using Impl::Impl;

  std::size_t rows() const { return to_size(weight[0]); }
  std::size_t columns() const { return to_size(weight[1]); }

  std::size_t workspace_bytes(int) const override {
    const auto bytes = [](const Shape& s) {
      return align_up(to_size(s.elements()) * sizeof(float));
    };
    return layout == Layout::kNHWC ? 0 : bytes(geometry.input) + bytes(geometry.output);
  }

  void run(const float* x, const float* dy, float* dw, std::byte* workspace,
           const ThreadPool& pool) const override {
    if (layout == Layout::kNHWC) return add_pixels(x, dy, dw, pool);
    Carver carver(workspace);
    const auto nhwc = [&](const Shape& shape, const float* from) {
      float* to = carver.take<float>(to_size(shape.elements()));
      layouts.to_nhwc(shape, from, to, pool);
      return to;
    };
    const float* in = nhwc(geometry.input, x);
    add_pixels(in, nhwc(geometry.output, dy), dw, pool);
  }

  void add_pixels(const float* x, const float* dy, float* dw, const ThreadPool& pool) const {
    std::fill_n(dw, rows() * columns(), 0.0F);
    const std::size_t across = divide_up(columns(), kernels->columns);
    const std::size_t tiles = across * divide_up(rows(), kernels->rows);
    const std::size_t parts = std::min(tiles, to_size(pool.threads()));
    const std::size_t pixels = to_size(geometry.input[0] * geometry.input[2] * geometry.input[3]);
    pool.parallel_for(parts, [&](std::size_t part) {
      for (std::size_t p = 0; p < pixels; p += kPixels) {
        const std::size_t count = std::min(kPixels, pixels - p);
        for (std::size_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
          add_tile(t, x + p * columns(), dy + p * rows(), count, dw);
        }
      }
    });
  }

  // Tiles go down a panel of columns, then to the next.
  void add_tile(std::size_t tile, const float* x, const float* dy, std::size_t count,
                float* dw) const {
    const std::size_t down = divide_up(rows(), kernels->rows);
    // Nearly equal heights: a tile of one row would take as long as a whole one.
    const std::size_t row = rows() * (tile % down) / down;
    const std::size_t column = tile / down * kernels->columns;
    OuterProducts o{};
    o.a = dy + row;
    o.a_step = rows();
    o.b = x + column;
    o.b_step = columns();
    o.count = count;
    o.rows = rows() * (tile % down + 1) / down - row;
    o.columns = std::min(kernels->columns, columns() - column);
    o.c = dw + row * columns() + column;
    o.c_step = columns();
    kernels->outer_products(o);
  }

  std::string describe() const override {
    return fmt::format("pointwise weight gradient {}x{}", kernels->rows, kernels->columns);
  }
};

}  // namespace

WeightGradient pointwise_weight_gradient(const ConvGeometry& g, const Shape& weight,
                                         Layout layout) {
  return std::make_shared<PointwiseGradient>(g, weight, layout);
}

}  // namespace sepconv
