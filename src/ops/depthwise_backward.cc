#include "ops/depthwise_backward.h"

#include <algorithm>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "kernels/depthwise.h"
#include "kernels/gradients.h"
#include "ops/grid.h"
#include "ops/op_impl.h"
#include "ops/rows_ahead.h"
#include "ops/weight_gradient.h"

namespace sepconv {

namespace {
constexpr std::size_t kTaps = 9;
}  // namespace

// Of one run: the images, a row of zeros and each image's sums.
struct DepthwiseBackwardPass::Images {
  const float *x, *dy;
  float* dx;
  const float* zeros;
  float* partial;
  bool streams;
};

bool DepthwiseBackwardPass::takes(const ConvGeometry& g, Layout layout) {
  const auto plain = [](const Window& w) {
    return w.size == 3 && w.stride == 1 && w.dilation == 1;
  };
  const bool depthwise = g.groups == g.input[1] && g.groups == g.output[1];
  return depthwise && layout == Layout::kNHWC && plain(g.window.rows) && plain(g.window.columns) &&
         to_size(g.groups) >= gradient_kernels().lanes && depthwise_backward() != nullptr;
}

DepthwiseBackwardPass::DepthwiseBackwardPass(const ConvArguments& a)
    : geometry_(a), lanes_(gradient_kernels().lanes) {
  weights_ = make_aligned<float>(blocks() * kTaps * lanes_);
  for (std::size_t b = 0; b < blocks(); ++b) {
    const float* from = a.weight.data() + kTaps * block_channel(b, channels(), lanes_);
    float* to = weights_.get() + b * kTaps * lanes_;
    for (std::size_t i = 0; i < lanes_ * kTaps; ++i) to[i % kTaps * lanes_ + i / kTaps] = from[i];
  }
}

std::size_t DepthwiseBackwardPass::zero_floats() const {
  return to_size(geometry_.output_image().row_floats());
}

// The first image's are the sum in the end, even if there is none.
std::size_t DepthwiseBackwardPass::partial_floats() const {
  return std::max<std::size_t>(images(), 1) * blocks() * kTaps * lanes_;
}

std::size_t DepthwiseBackwardPass::workspace_bytes() const {
  return align_up(zero_floats() * sizeof(float)) + align_up(partial_floats() * sizeof(float));
}

bool DepthwiseBackwardPass::streams(const float* dx) const {
  return outgrows_caches(geometry_.input, geometry_.output) && lanes_ == kLineFloats &&
         whole_lines(geometry_.groups) && is_aligned(dx);
}

void DepthwiseBackwardPass::run(const float* x, const float* dy, float* dx, float* dw,
                                std::byte* workspace, const ThreadPool& pool) const {
  Carver carver(workspace);
  float* zeros = carver.take<float>(zero_floats());
  float* partial = carver.take<float>(partial_floats());
  std::fill_n(zeros, zero_floats(), 0.0F);
  std::fill_n(partial, partial_floats(), 0.0F);
  const Images all{x, dy, dx, zeros, partial, streams(dx)};
  // Whole vectors of channels are shared out where images are fewer than threads; the last block,
  // which may overlap its neighbour, stays with that.
  const auto whole = static_cast<std::int64_t>(channels() / lanes_);
  const auto groups = static_cast<std::int64_t>(std::clamp<std::size_t>(
      divide_up(to_size(pool.threads()), std::max<std::size_t>(images(), 1)), 1, to_size(whole)));
  pool.parallel_for(images() * to_size(groups), [&](std::size_t part) {
    const std::int64_t group = static_cast<std::int64_t>(part) % groups;
    RowRange own = part_of(whole, group, groups);
    if (group + 1 == groups) own.end = static_cast<std::int64_t>(blocks());
    run_blocks(part / to_size(groups), own, all);
  });
  pool.parallel_for(blocks(), [&](std::size_t block) {
    join_images({images(), channels(), kTaps, lanes_}, block, partial, dw);
  });
}

// Some rows of all channels at a time, so that what lies beside a vector of channels is in L2 for
// the next.
void DepthwiseBackwardPass::run_blocks(std::size_t image, RowRange blocks_of_part,
                                       const Images& all) const {
  const ImageShape in = geometry_.input_image(), out = geometry_.output_image();
  const std::int64_t step = rows_in_l2(in.height, 2 * in.row_floats() + out.row_floats());
  const float* x = all.x + image * to_size(in.height * in.row_floats());
  const float* dy = all.dy + image * to_size(out.height * out.row_floats());
  float* dx = all.dx + image * to_size(in.height * in.row_floats());
  const RowsAhead x_ahead(all.x, geometry_.input[0], in);
  const RowsAhead dy_ahead(all.dy, geometry_.input[0], out);
  for (std::int64_t row = 0; row < in.height; row += step) {
    const std::int64_t end = std::min(in.height, row + step);
    const std::size_t pixels = to_size((end - row) * in.width);
    for (std::int64_t b = blocks_of_part.begin; b < blocks_of_part.end; ++b) {
      const std::size_t block = to_size(b), c = block_channel(block, channels(), lanes_);
      const std::size_t share = to_size(b - blocks_of_part.begin);
      kernel_({.x = x + c,
               .dy = dy + c,
               .dx = dx + c,
               .zeros = all.zeros,
               .weights = weights_.get() + block * kTaps * lanes_,
               .dw = all.partial + (image * blocks() + block) * kTaps * lanes_,
               .pixel = channels(),
               .width = in.width,
               .out_height = out.height,
               .out_width = out.width,
               .row_begin = row,
               .row_end = end,
               .pad_top = geometry_.window.rows.pad,
               .pad_left = geometry_.window.columns.pad,
               .streams = all.streams,
               .x_ahead = x_ahead.behind(image, end, share, pixels),
               .dy_ahead = dy_ahead.behind(image, std::min(out.height, end), share, pixels)});
    }
  }
}

}  // namespace sepconv
