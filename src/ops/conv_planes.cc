#include "ops/conv_planes.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"

namespace sepconv {

namespace {
// Cycles for turning a vector, and products of a vector in a cycle: rough, and the same on all.
constexpr double kTurnCycles = 4, kProducts = 2;
// An image's input and output that turning would move through memory once more, by L2.
constexpr double kFarImages = 4;
// Values of k that are worth a call of the kernel, for one tile of rows. No more rows than that: in
// memory each row's results are a stream of their own.
constexpr std::size_t kWorthACall = 96;
}  // namespace

bool ConvPlanes::pays(const ConvGeometry& g, std::int64_t out_channels) {
  const Window &r = g.window.rows, &c = g.window.columns;
  const bool every_pixel = g.window.taps() == 1 && r.stride == 1 && c.stride == 1 &&
                           g.input[2] == g.output[2] && g.input[3] == g.output[3];
  const double in = static_cast<double>(g.input[1]), out = static_cast<double>(out_channels);
  const double products = in / static_cast<double>(g.groups) * out;
  const double bytes = sizeof(float) * (in + out) * static_cast<double>(g.input[2] * g.input[3]);
  const bool is_far = bytes > kFarImages * static_cast<double>(l2_cache_bytes());
  return every_pixel && (is_far || kTurnCycles * (in + out) > 0.05 * products / kProducts);
}

struct ConvPlanes::Image {
  const float* x;
  const float* residual;  // or null
  float* y;
};

ConvPlanes::ConvPlanes(ConvArguments a, const Conv2dOptions& options)
    : Impl(a.input, a.output, Layout::kNCHW, options.residual),
      a_(std::move(a)),
      epilogue_(options.activation),
      kernels_(&gemm_kernels()),
      depth_(to_size(a_.weight.shape()[1])) {
  epilogue_.residual_first = options.residual_before_activation;
  const std::size_t panel_bytes = depth_ * kernels_->columns * sizeof(float);
  const std::size_t pixels = to_size(output[2] * output[3]);
  block_ = std::clamp<std::size_t>(l2_cache_bytes() / 4 / panel_bytes, 1,
                                   std::max<std::size_t>(1, divide_up(pixels, kernels_->columns)));
  const std::size_t most = kernels_->rows * std::max<std::size_t>(1, kWorthACall / depth_);
  const std::size_t rows = to_size(output[1] / a_.groups);
  rows_ = divide_up(rows, std::max<std::size_t>(1, divide_up(rows, most)));
  for (std::int64_t o = 0; o < output[1]; ++o) {
    bias_.push_back(a_.bias_data() ? a_.bias_data()[o] : 0.0F);
  }
}

std::size_t ConvPlanes::thread_bytes() const {
  return align_up((block_ * depth_ + rows_) * kernels_->columns * sizeof(float));
}

std::size_t ConvPlanes::workspace_bytes(int threads) const {
  return thread_bytes() * to_size(threads);
}

void ConvPlanes::run_block(const Image& image, std::int64_t group, std::size_t first,
                           float* panels) const {
  float* sums = panels + block_ * depth_ * kernels_->columns;
  const std::size_t pixels = to_size(output[2] * output[3]), wide = kernels_->columns;
  const std::size_t end = std::min(pixels, first + block_ * wide);
  const std::int64_t in_group = a_.weight.shape()[1], out_group = output[1] / a_.groups;
  const float* x = image.x + group * in_group * input[2] * input[3];
  for (std::size_t p = first; p < end; p += wide) {
    kernels_->copy_panel(x + p, pixels, depth_, std::min(wide, end - p),
                         panels + (p - first) * depth_);
  }
  const std::size_t n = to_size(out_group);
  const float* weight = a_.weight.data();
  GemmTile tile{};
  tile.a = &weight;
  tile.a_step = depth_;
  tile.taps = 1;
  tile.k = depth_;
  tile.bias_per_row = true;
  tile.c_step = pixels;
  tile.epilogue = epilogue_;
  for (std::size_t m = 0; m < n; m += rows_) {
    const std::size_t row = to_size(group) * n + m;
    for (std::size_t p = first; p < end; p += wide) {
      tile.b = panels + (p - first) * depth_;
      tile.columns = std::min(wide, end - p);
      for (tile.start = 0; tile.start < depth_; tile.start += tile.count) {
        tile.count = std::min(kGemmPart, depth_ - tile.start);
        tile.sums = sums;
        tile.a_offset = row * depth_;
        tile.bias = bias_.data() + row;
        tile.c = image.y + row * pixels + p;
        tile.residual = image.residual ? image.residual + row * pixels + p : nullptr;
        multiply_rows(*kernels_, tile, std::min(rows_, n - m));
      }
    }
  }
}

void ConvPlanes::run(const float* x, std::span<const float* const> sides, float* y,
                     std::byte* workspace, const ThreadPool& pool) const {
  const float* add = sides.empty() ? nullptr : sides[0];
  const std::size_t pixels = to_size(output[2] * output[3]), step = block_ * kernels_->columns;
  const std::size_t blocks = divide_up(pixels, step);
  const std::size_t all = to_size(input[0]) * to_size(a_.groups) * blocks;
  const std::size_t parts = std::min<std::size_t>(to_size(pool.threads()), all);
  const std::size_t bytes = thread_bytes();
  pool.parallel_for(parts, [&](std::size_t part) {
    float* panels = reinterpret_cast<float*>(workspace + part * bytes);
    for (std::size_t i = all * part / parts; i < all * (part + 1) / parts; ++i) {
      const std::size_t image = i / (to_size(a_.groups) * blocks);
      const std::size_t out = image * to_size(output[1]) * pixels;
      const float* in = x + static_cast<std::int64_t>(image) * input[1] * input[2] * input[3];
      const std::size_t group = i / blocks % to_size(a_.groups);
      run_block({in, add ? add + out : nullptr, y + out}, static_cast<std::int64_t>(group),
                i % blocks * step, panels);
    }
  });
}

std::string ConvPlanes::describe() const { return "pointwise planes " + kernels_->describe(); }

double ConvPlanes::flops() const {
  return 2.0 * static_cast<double>(output.elements()) * static_cast<double>(depth_);
}

}  // namespace sepconv
