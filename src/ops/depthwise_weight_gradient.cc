#include <fmt/format.h>

#include <algorithm>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "kernels/transpose.h"
#include "ops/rows_ahead.h"
#include "ops/weight_gradient.h"

namespace sepconv {

namespace {

// Each image and vector of channels by itself, then the images one after the other.
struct DepthwiseGradient final : Conv2dWeightGradient::Impl {
  const TransposeKernels* transpose = &transpose_kernels();

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
  // A row of images as they are, or of a vector of channels, of which there may be more.
  std::size_t zeros() const {
    const std::size_t wide = layout == Layout::kNCHW ? lanes() : channels();
    return to_size(geometry.input[3]) * wide;
  }

  std::size_t plane_floats() const {
    return to_size(geometry.input[2] * geometry.input[3] + geometry.output[2] * geometry.output[3]);
  }

  std::size_t workspace_bytes(int threads) const override {
    const std::size_t planes = align_up(plane_floats() * lanes() * sizeof(float));
    return align_up(partial_floats() * sizeof(float)) + align_up(zeros() * sizeof(float)) +
           (layout == Layout::kNCHW ? to_size(threads) * planes : 0);
  }

  // A visitor wants whole rows, not some groups of channels.
  bool visits(int threads) const override {
    return layout == Layout::kNHWC && block_groups(threads) == 1;
  }
  std::size_t slots(int) const override { return images(); }

  void run(const float* x, const float* dy, float* dw, std::byte* workspace, const ThreadPool& pool,
           const RowVisitor* visitor) const override {
    Carver carver(workspace);
    float* partial = carver.take<float>(partial_floats());
    float* zero_row = carver.take<float>(zeros());
    std::fill_n(zero_row, zeros(), 0.0F);
    std::fill_n(partial, partial_floats(), 0.0F);
    if (layout == Layout::kNHWC) {
      add_pixels(x, dy, zero_row, partial, pool, visitor);
    } else {
      add_planes(x, dy, zero_row, partial, carver.rest(), pool);
    }
    pool.parallel_for(blocks(), [&](std::size_t block) {
      join_images({images(), channels(), taps(), lanes()}, block, partial, dw);
    });
  }

  // Some rows of all channels at a time, so that what lies beside a vector of channels is in L2 for
  // the next.
  void add_pixels(const float* x, const float* dy, const float* zero_row, float* partial,
                  const ThreadPool& pool, const RowVisitor* visitor) const {
    const std::size_t groups = block_groups(pool.threads());
    const RowsAhead x_ahead(x, geometry.input[0], geometry.input_image());
    const RowsAhead dy_ahead(dy, geometry.input[0], geometry.output_image());
    const std::int64_t stride = geometry.window.rows.stride;
    pool.parallel_for(images() * groups, [&](std::size_t part) {
      const std::size_t image = part / groups, group = part % groups;
      const std::int64_t height = geometry.output[2], step = rows_at_once();
      for (std::int64_t row = 0; row < height; row += step) {
        const std::int64_t end = std::min(height, row + step);
        const std::size_t outputs = to_size((end - row) * geometry.output[3]);
        const std::size_t first = blocks() * group / groups;
        for (std::size_t b = first; b < blocks() * (group + 1) / groups; ++b) {
          DepthwiseWeightGradient a = image_part(image, b, x, dy);
          a.row_begin = row;
          a.row_end = end;
          a.zeros = zero_row;
          a.dw = partial + (image * blocks() + b) * taps() * lanes();
          a.x_ahead = x_ahead.behind(image, std::min(geometry.input[2], end * stride), b - first,
                                     outputs * to_size(stride * stride));
          a.dy_ahead = dy_ahead.behind(image, end, b - first, outputs);
          kernels->depthwise_weight(a);
        }
        if (visitor) visitor->visit(image, {row, end}, image);
      }
    });
  }

  // A vector of channels of one image at a time, turned into pixels.
  void add_planes(const float* x, const float* dy, const float* zero_row, float* partial,
                  std::byte* workspace, const ThreadPool& pool) const {
    const std::size_t all = images() * blocks(), parts = std::min(to_size(pool.threads()), all);
    const std::size_t bytes = align_up(plane_floats() * lanes() * sizeof(float));
    pool.parallel_for(parts, [&](std::size_t part) {
      float* in = reinterpret_cast<float*>(workspace + part * bytes);
      float* out = in + to_size(geometry.input[2] * geometry.input[3]) * lanes();
      for (std::size_t i = all * part / parts; i < all * (part + 1) / parts; ++i) {
        const std::size_t image = i / blocks(), block = i % blocks();
        take_block(geometry.input, x, image, block, in);
        take_block(geometry.output, dy, image, block, out);
        DepthwiseWeightGradient a = window_part();
        a.x = in;
        a.dy = out;
        a.in_pixel = a.out_pixel = a.channels = lanes();
        a.row_end = geometry.output[2];
        a.zeros = zero_row;
        a.dw = partial + i * taps() * lanes();
        kernels->depthwise_weight(a);
      }
    });
  }

  // Block `block` of an image's channels as pixels; channels that do not exist repeat the last one.
  void take_block(const Shape& shape, const float* images, std::size_t image, std::size_t block,
                  float* to) const {
    const std::size_t plane = to_size(shape[2] * shape[3]);
    const std::size_t c = block_channel(block, channels(), lanes());
    const auto planes = plane_pointers(images + (image * channels() + c) * plane,
                                       std::min(lanes(), channels() - c), plane);
    transpose->to_pixels(planes.data(), lanes(), plane, to, lanes());
  }

  // As few as keep all threads busy; which bits come out does not depend on them.
  std::size_t block_groups(int threads) const {
    return std::clamp<std::size_t>(divide_up(to_size(threads), std::max<std::size_t>(images(), 1)),
                                   1, blocks());
  }

  std::int64_t rows_at_once() const override {
    const std::int64_t floats = geometry.output_image().row_floats() +
                                geometry.window.rows.stride * geometry.input_image().row_floats();
    return rows_in_l2(geometry.output[2], floats);
  }

  DepthwiseWeightGradient image_part(std::size_t image, std::size_t block, const float* x,
                                     const float* dy) const {
    const std::size_t c = block_channel(block, channels(), lanes());
    const ImageShape in = geometry.input_image(), out = geometry.output_image();
    DepthwiseWeightGradient a = window_part();
    a.x = x + image * to_size(in.height * in.row_floats()) + c;
    a.dy = dy + image * to_size(out.height * out.row_floats()) + c;
    a.in_pixel = a.out_pixel = channels();
    a.channels = std::min(channels(), lanes());
    return a;
  }

  DepthwiseWeightGradient window_part() const {
    DepthwiseWeightGradient a{};
    a.in_height = geometry.input[2];
    a.in_width = geometry.input[3];
    a.out_width = geometry.output[3];
    a.rows = geometry.window.rows;
    a.columns = geometry.window.columns;
    return a;
  }

  std::string describe() const override {
    return fmt::format("depthwise weight gradient {}x{} of {}", weight[2], weight[3], lanes());
  }
};

}  // namespace

void join_images(const ImageSums& sums, std::size_t block, float* partial, float* dw) {
  const auto [images, channels, taps, lanes] = sums;
  const std::size_t c = block_channel(block, channels, lanes), floats = taps * lanes;
  const std::size_t count = std::min(lanes, channels - c), blocks = divide_up(channels, lanes);
  float* sum = partial + block * floats;
  for (std::size_t n = 1; n < images; ++n) {
    const float* image = sum + n * blocks * floats;
    for (std::size_t i = 0; i < floats; ++i) sum[i] += image[i];
  }
  for (std::size_t t = 0; t < taps; ++t) {
    for (std::size_t i = 0; i < count; ++i) dw[(c + i) * taps + t] = sum[t * lanes + i];
  }
}

WeightGradient depthwise_weight_gradient(const ConvGeometry& g, const Shape& weight,
                                         Layout layout) {
  return std::make_shared<DepthwiseGradient>(g, weight, layout);
}

}  // namespace sepconv
