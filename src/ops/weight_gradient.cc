#include <fmt/format.h>

#include <algorithm>

#include "base/aligned.h"
#include "base/check.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "kernels/gradients.h"
#include "ops/arguments.h"
#include "ops/layout_change.h"
#include "sepconv/gradients.h"

namespace sepconv {

struct Conv2dWeightGradient::Impl {
  ConvGeometry geometry;
  Shape weight;
  Layout layout;
  const GradientKernels* kernels = &gradient_kernels();
  LayoutChange layouts;

  Impl(const ConvGeometry& g, const Shape& w, Layout l) : geometry(g), weight(w), layout(l) {}
  virtual ~Impl() = default;
  /// Besides NHWC copies of what comes in NCHW.
  virtual std::size_t own_bytes() const = 0;
  virtual void run(const float* x, const float* dy, float* dw, std::byte* workspace,
                   const ThreadPool& pool) const = 0;
  virtual std::string describe() const = 0;
};

namespace {

// Each image and vector of channels by itself, then the images one after the other. Some rows of
// all channels at a time, so that what lies beside a vector of channels is in L2 for the next.
struct DepthwiseGradient final : Conv2dWeightGradient::Impl {
  using Impl::Impl;

  std::size_t lanes() const { return kernels->lanes; }
  std::size_t channels() const { return to_size(geometry.input[1]); }
  std::size_t blocks() const { return divide_up(channels(), lanes()); }
  std::size_t taps() const { return to_size(geometry.window.taps()); }
  std::size_t images() const { return to_size(geometry.input[0]); }
  // The first image's are the sum in the end, even if there is none.
  std::size_t partial_floats() const {
    return std::max<std::size_t>(images(), 1) * blocks() * taps() * lanes();
  }
  std::size_t zeros() const { return to_size(geometry.input_image().row_floats()); }

  std::size_t own_bytes() const override {
    return align_up(partial_floats() * sizeof(float)) + align_up(zeros() * sizeof(float));
  }

  void run(const float* x, const float* dy, float* dw, std::byte* workspace,
           const ThreadPool& pool) const override {
    Carver carver(workspace);
    float* partial = carver.take<float>(partial_floats());
    float* zero_row = carver.take<float>(zeros());
    std::fill_n(zero_row, zeros(), 0.0F);
    std::fill_n(partial, partial_floats(), 0.0F);
    const std::size_t groups = block_groups(pool);
    pool.parallel_for(images() * groups, [&](std::size_t part) {
      const std::size_t image = part / groups, group = part % groups;
      const std::int64_t height = geometry.output[2], step = rows_at_once();
      for (std::int64_t row = 0; row < height; row += step) {
        fetch_rows(image, row, std::min(height, row + step), x, dy);
        for (std::size_t b = blocks() * group / groups; b < blocks() * (group + 1) / groups; ++b) {
          DepthwiseWeightGradient a = image_part(image, b, x, dy);
          a.row_begin = row;
          a.row_end = std::min(height, row + step);
          a.zeros = zero_row;
          a.dw = partial + (image * blocks() + b) * taps() * lanes();
          kernels->depthwise_weight(a);
        }
      }
    });
    pool.parallel_for(blocks(), [&](std::size_t block) { add_images(block, partial, dw); });
  }

  // A vector of channels at a time, memory beyond L2 is read a line here and a line there, at a
  // quarter of the speed at which it comes in order: so it is read in order first. Where there is
  // little of it, L2 and L3 have it.
  void fetch_rows(std::size_t image, std::int64_t begin, std::int64_t end, const float* x,
                  const float* dy) const {
    const std::int64_t floats = geometry.input.elements() + geometry.output.elements();
    if (to_size(floats) * sizeof(float) < 16 * l2_cache_bytes()) return;
    const auto fetch = [&](const float* images, const ImageShape& s, std::int64_t stride) {
      const float* base = images + image * to_size(s.height * s.row_floats());
      const std::int64_t from = std::min(s.height, begin * stride);
      const std::int64_t rows = std::min(s.height, end * stride) - from;
      kernels->fetch(base + from * s.row_floats(), to_size(rows * s.row_floats()));
    };
    fetch(x, geometry.input_image(), geometry.window.rows.stride);
    fetch(dy, geometry.output_image(), 1);
  }

  // As few as keep all threads busy; which bits come out does not depend on them.
  std::size_t block_groups(const ThreadPool& pool) const {
    const std::size_t threads = to_size(pool.threads());
    return std::clamp<std::size_t>(divide_up(threads, std::max<std::size_t>(images(), 1)), 1,
                                   blocks());
  }

  std::int64_t rows_at_once() const {
    const std::int64_t floats = geometry.output_image().row_floats() +
                                geometry.window.rows.stride * geometry.input_image().row_floats();
    constexpr std::int64_t kFloats = 1 << 17;  // half of a common L2
    return std::max<std::int64_t>(1, kFloats / floats);
  }

  DepthwiseWeightGradient image_part(std::size_t image, std::size_t block, const float* x,
                                     const float* dy) const {
    const std::size_t c = block_channel(block, channels(), lanes());
    const ImageShape in = geometry.input_image(), out = geometry.output_image();
    DepthwiseWeightGradient a{};
    a.x = x + image * to_size(in.height * in.row_floats()) + c;
    a.dy = dy + image * to_size(out.height * out.row_floats()) + c;
    a.in_pixel = a.out_pixel = channels();
    a.in_height = in.height;
    a.in_width = in.width;
    a.out_width = out.width;
    a.channels = std::min(channels(), lanes());
    a.rows = geometry.window.rows;
    a.columns = geometry.window.columns;
    return a;
  }

  void add_images(std::size_t block, float* partial, float* dw) const {
    const std::size_t c = block_channel(block, channels(), lanes());
    const std::size_t count = std::min(lanes(), channels() - c), floats = taps() * lanes();
    float* sum = partial + block * floats;
    for (std::size_t n = 1; n < images(); ++n) {
      const float* image = sum + n * blocks() * floats;
      for (std::size_t i = 0; i < floats; ++i) sum[i] += image[i];
    }
    for (std::size_t t = 0; t < taps(); ++t) {
      for (std::size_t i = 0; i < count; ++i) dw[(c + i) * taps() + t] = sum[t * lanes() + i];
    }
  }

  std::string describe() const override {
    return fmt::format("depthwise weight gradient {}x{} of {}", weight[2], weight[3], lanes());
  }
};

// dW = dYᵀ·X over all pixels, some of them at a time so that X's columns stay in L1 while all rows
// of dW pass.
struct PointwiseGradient final : Conv2dWeightGradient::Impl {
  static constexpr std::size_t kPixels = 256;
  using Impl::Impl;

  std::size_t rows() const { return to_size(weight[0]); }
  std::size_t columns() const { return to_size(weight[1]); }
  std::size_t own_bytes() const override { return 0; }

  void run(const float* x, const float* dy, float* dw, std::byte*,
           const ThreadPool& pool) const override {
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

std::shared_ptr<const Conv2dWeightGradient::Impl> gradient_of(const Shape& input, const Shape& w,
                                                              const Conv2dOptions& options,
                                                              std::int64_t groups, Layout layout) {
  const ConvGeometry g = conv_geometry(input, TensorView(nullptr, w), {}, options, groups);
  const Window2d& window = g.window;
  if (w[1] == 1 && groups == input[1] && w[0] == groups) {
    return std::make_shared<DepthwiseGradient>(g, w, layout);
  }
  const bool pointwise = groups == 1 && window.taps() == 1 && window.rows.stride == 1 &&
                         window.columns.stride == 1 && options.padding == Padding(0);
  check(pointwise,
        "weight: shape is {} with {} groups, expected [C, 1, kh, kw] with C groups, or "
        "[Cout, C, 1, 1] with one, stride 1 and no padding",
        to_string(w), groups);
  return std::make_shared<PointwiseGradient>(g, w, layout);
}

std::size_t float_bytes(const Shape& shape) { return to_size(shape.elements()) * sizeof(float); }

}  // namespace

Conv2dWeightGradient::Conv2dWeightGradient(const Shape& input, const Shape& weight,
                                           const Conv2dOptions& options, std::int64_t groups,
                                           Layout layout)
    : impl_(gradient_of(input, weight, options, groups, layout)) {}

const Shape& Conv2dWeightGradient::input_shape() const { return impl_->geometry.input; }
const Shape& Conv2dWeightGradient::output_shape() const { return impl_->geometry.output; }
const Shape& Conv2dWeightGradient::weight_shape() const { return impl_->weight; }
Layout Conv2dWeightGradient::layout() const { return impl_->layout; }
std::string Conv2dWeightGradient::describe() const { return impl_->describe(); }

double Conv2dWeightGradient::flops() const {
  return 2.0 * static_cast<double>(output_shape().elements() * impl_->weight[1] *
                                   impl_->geometry.window.taps());
}

std::size_t Conv2dWeightGradient::workspace_bytes(int) const {
  std::size_t bytes = impl_->own_bytes();
  if (layout() == Layout::kNCHW) {
    bytes += align_up(float_bytes(input_shape())) + align_up(float_bytes(output_shape()));
  }
  return bytes;
}

void Conv2dWeightGradient::run(const TensorView& x, const TensorView& dy, const TensorView& dw,
                               std::span<std::byte> workspace, const ThreadPool& pool) const {
  check_view("x", x, input_shape(), layout());
  check_view("dy", dy, output_shape(), layout());
  check_view("dw", dw, weight_shape(), Layout::kNCHW);
  check_workspace(workspace, workspace_bytes(pool.threads()));
  if (layout() == Layout::kNHWC) {
    impl_->run(x.floats(), dy.floats(), dw.floats(), workspace.data(), pool);
    return;
  }
  Carver carver(workspace.data());
  const auto nhwc = [&](const TensorView& view) {
    float* data = carver.take<float>(to_size(view.shape().elements()));
    impl_->layouts.to_nhwc(view.shape(), view.floats(), data, pool);
    return data;
  };
  const float* in = nhwc(x);
  const float* gradient = nhwc(dy);
  impl_->run(in, gradient, dw.floats(), carver.rest(), pool);
}

}  // namespace sepconv
