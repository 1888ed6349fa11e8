#include <fmt/format.h>

#include <algorithm>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "ops/layout_change.h"
#include "ops/weight_gradient.h"

namespace sepconv {

namespace {

// dW = dYᵀ·X over all pixels, some of them at a time so that X's columns stay in L1 while all rows
// of dW pass. Images below each other are one.
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

  bool visits(int) const override { return layout == Layout::kNHWC; }
  std::size_t slots(int threads) const override { return parts(threads); }
  std::int64_t rows_at_once() const override {
    const std::int64_t width = std::max<std::int64_t>(1, geometry.input[3]);
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(kPixels) / width);
  }
  ConvGeometry seen() const override {
    ConvGeometry one = geometry;
    for (Shape* s : {&one.input, &one.output}) *s = {1, (*s)[1], (*s)[0] * (*s)[2], (*s)[3]};
    return one;
  }

  void run(const float* x, const float* dy, float* dw, std::byte* workspace, const ThreadPool& pool,
           const RowVisitor* visitor) const override {
    if (layout == Layout::kNHWC) return add_pixels(x, dy, dw, pool, visitor);
    Carver carver(workspace);
    const auto nhwc = [&](const Shape& shape, const float* from) {
      float* to = carver.take<float>(to_size(shape.elements()));
      layouts.to_nhwc(shape, from, to, pool);
      return to;
    };
    const float* in = nhwc(geometry.input, x);
    add_pixels(in, nhwc(geometry.output, dy), dw, pool, nullptr);
  }

  std::size_t tiles() const {
    return divide_up(columns(), kernels->columns) * divide_up(rows(), kernels->rows);
  }
  std::size_t parts(int threads) const { return std::min(tiles(), to_size(threads)); }

  // Each thread has some tiles of dW, and every so many rows for the visitor.
  void add_pixels(const float* x, const float* dy, float* dw, const ThreadPool& pool,
                  const RowVisitor* visitor) const {
    std::fill_n(dw, rows() * columns(), 0.0F);
    const std::size_t all = parts(pool.threads());
    const std::int64_t height = geometry.input[0] * geometry.input[2], step = rows_at_once();
    pool.parallel_for(all, [&](std::size_t part) {
      std::size_t turn = 0;
      for (std::int64_t row = 0; row < height; row += step, ++turn) {
        const RowRange some{row, std::min(height, row + step)};
        add_rows(some,
                 {static_cast<std::int64_t>(tiles() * part / all),
                  static_cast<std::int64_t>(tiles() * (part + 1) / all)},
                 x, dy, dw);
        if (visitor && turn % all == part) visitor->visit(0, some, part);
      }
    });
  }

  void add_rows(RowRange image_rows, RowRange own_tiles, const float* x, const float* dy,
                float* dw) const {
    const std::size_t width = to_size(geometry.input[3]), end = to_size(image_rows.end) * width;
    for (std::size_t p = to_size(image_rows.begin) * width; p < end; p += kPixels) {
      const std::size_t count = std::min(kPixels, end - p);
      const bool more = fetches() && p + 2 * count <= all_pixels();
      for (std::int64_t t = own_tiles.begin; t < own_tiles.end; ++t) {
        OuterProducts o = tile(to_size(t), x + p * columns(), dy + p * rows(), count, dw);
        if (more) look_ahead(o, t - own_tiles.begin, own_tiles.size(), x, dy, p + count);
        kernels->outer_products(o);
      }
    }
  }

  std::size_t all_pixels() const {
    return to_size(geometry.input[0] * geometry.input[2] * geometry.input[3]);
  }
  // Tiles read some channels of every pixel, and then others: from beyond L2 that would take long.
  bool fetches() const {
    return all_pixels() * (columns() + rows()) * sizeof(float) > l2_cache_bytes();
  }

  // The tiles share out what is read next: as many pixels of X, then of dY, from pixel p on.
  void look_ahead(OuterProducts& o, std::int64_t share, std::int64_t shares, const float* x,
                  const float* dy, std::size_t p) const {
    const std::size_t step = (columns() + rows()) / to_size(shares);
    const std::size_t at = to_size(share) * step * o.count, of_x = columns() * o.count;
    const float* from = at < of_x ? x + p * columns() + at : dy + p * rows() + (at - of_x);
    o.ahead = reinterpret_cast<const char*>(from);
    o.ahead_step = step * sizeof(float);
  }

  // Tiles go down a panel of columns, then to the next.
  OuterProducts tile(std::size_t tile, const float* x, const float* dy, std::size_t count,
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
    o.ahead = reinterpret_cast<const char*>(x);
    return o;
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
