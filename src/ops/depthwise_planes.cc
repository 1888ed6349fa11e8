#include "ops/depthwise_planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "ops/depthwise_rows.h"
#include "ops/input_gradient.h"

namespace sepconv {

// Input rows as pixels: image row r is at row r % ring_rows_.
struct DepthwisePlanes::Ring {
  float* rows;
  std::int64_t end;  // of the rows that were made
};

DepthwisePlanes::DepthwisePlanes(const Shape& in, const Shape& out, Blocks blocks)
    : Impl(in, out, Layout::kNCHW, false), blocks_(std::move(blocks)) {
  const auto lanes = static_cast<std::int64_t>(kernels_->lanes);
  // As many rows as stay in L1 together, but never fewer than the kernel computes at once.
  const std::int64_t step = blocks_.front()->row_multiple();
  const std::int64_t room = static_cast<std::int64_t>(l1_cache_bytes()) * 3 / 4;
  const auto bytes = [&](std::int64_t band) {
    return 4 * lanes * (rows_for(band) * input[3] + band * output[3]);
  };
  for (band_ = step; band_ < output[2] && bytes(band_ + step) <= room;) band_ += step;
  band_ = std::min(band_, output[2]);
  ring_rows_ = rows_for(band_);
  streams_ = outgrows_caches(input, output) && lanes == kLineFloats &&
             whole_lines(output[2] * output[3]) && whole_lines(band_ * output[3]);
}

// The most input rows that so many output rows need.
std::int64_t DepthwisePlanes::rows_for(std::int64_t band) const {
  std::int64_t most = 1;
  for (std::int64_t o = 0; o < output[2]; o += band) {
    most = std::max(most, blocks_[0]->input_rows({o, std::min(o + band, output[2])}).size());
  }
  return most;
}

std::size_t DepthwisePlanes::thread_bytes() const {
  const std::size_t lanes = kernels_->lanes;
  return align_up(to_size(ring_rows_ * input[3]) * lanes * sizeof(float)) +
         align_up(to_size(band_ * output[3]) * lanes * sizeof(float)) +
         align_up(to_size(ring_rows_) * sizeof(float*)) +
         align_up(to_size(band_) * sizeof(float*)) +
         align_up(blocks_.front()->workspace_bytes(band_));
}

std::size_t DepthwisePlanes::workspace_bytes(int threads) const {
  return thread_bytes() * to_size(threads);
}

// Turns those of the rows that are not there yet into pixels.
void DepthwisePlanes::fill(Ring& ring, const float* const* planes, RowRange rows) const {
  const std::int64_t width = input[3];
  std::array<const float*, TransposeKernels::kMostLanes> from;
  for (std::int64_t r = std::max(rows.begin, ring.end); r < rows.end;) {
    const std::int64_t place = r % ring_rows_;
    const std::int64_t count = std::min(rows.end - r, ring_rows_ - place);
    for (std::size_t c = 0; c < kernels_->lanes; ++c) from[c] = planes[c] + r * width;
    kernels_->to_pixels(from.data(), kernels_->lanes, to_size(count * width),
                        ring.rows + to_size(place * width) * kernels_->lanes, kernels_->lanes);
    r += count;
  }
  ring.end = rows.end;
}

// Block `block` of all images' channels; x and y are the image's first planes.
void DepthwisePlanes::run_block(std::size_t block, const float* x, float* y,
                                std::byte* workspace) const {
  const std::size_t lanes = kernels_->lanes, channels = to_size(output[1]);
  const std::size_t first = block * lanes, count = std::min(lanes, channels - first);
  const std::int64_t width = input[3], out_width = output[3];
  const std::size_t multiplier = channels / to_size(input[1]);
  const std::size_t plane = to_size(output[2] * out_width);
  auto out_planes = plane_pointers(y + first * plane, count, plane);
  // Channels that do not exist read the last one's plane.
  std::array<const float*, TransposeKernels::kMostLanes> in_planes;
  for (std::size_t c = 0; c < lanes; ++c) {
    const std::size_t channel = first + std::min(c, count - 1);
    in_planes[c] = x + channel / multiplier * to_size(input[2] * width);
  }
  const bool streams = streams_ && is_aligned(y);
  Carver carver(workspace);
  Ring ring{carver.take<float>(to_size(ring_rows_ * width) * lanes), 0};
  float* out = carver.take<float>(to_size(band_ * out_width) * lanes);
  const float** in_rows = carver.take<const float*>(to_size(ring_rows_));
  float** out_rows = carver.take<float*>(to_size(band_));
  for (std::int64_t i = 0; i < band_; ++i) out_rows[i] = out + to_size(i * out_width) * lanes;
  for (std::int64_t o = 0; o < output[2]; o += band_) {
    const RowRange made{o, std::min(o + band_, output[2])};
    const RowRange rows = blocks_[block]->input_rows(made);
    fill(ring, in_planes.data(), rows);
    for (std::int64_t r = rows.begin; r < rows.end; ++r) {
      in_rows[r - rows.begin] = ring.rows + to_size(r % ring_rows_ * width) * lanes;
    }
    blocks_[block]->run_rows(made, {in_rows, rows.begin}, nullptr, out_rows, carver.rest());
    const std::int64_t pixels = made.size() * out_width;
    kernels_->to_planes(out, lanes, count, to_size(pixels), out_planes.data(), streams);
    for (std::size_t c = 0; c < count; ++c) out_planes[c] += pixels;
  }
}

void DepthwisePlanes::run(const float* x, std::span<const float* const>, float* y,
                          std::byte* workspace, const ThreadPool& pool) const {
  const std::size_t all = to_size(output[0]) * blocks_.size();
  const std::size_t parts = std::min(to_size(pool.threads()), all), bytes = thread_bytes();
  pool.parallel_for(parts, [&](std::size_t part) {
    for (std::size_t i = all * part / parts; i < all * (part + 1) / parts; ++i) {
      const std::int64_t image = static_cast<std::int64_t>(i / blocks_.size());
      run_block(i % blocks_.size(), x + image * input[1] * input[2] * input[3],
                y + image * output[1] * output[2] * output[3], workspace + part * bytes);
    }
  });
}

std::string DepthwisePlanes::describe() const {
  return fmt::format("planes, {}", blocks_.front()->describe());
}

double DepthwisePlanes::flops() const {
  const double blocks = static_cast<double>(output[1]) / static_cast<double>(kernels_->lanes);
  return blocks_.front()->flops() * blocks * static_cast<double>(output[0]);
}

namespace {

// Channels [first, first + lanes) of values with `each` floats a channel, zeros where there are
// none.
std::vector<float> block_of(const float* values, std::int64_t channels, std::int64_t each,
                            std::int64_t first, std::int64_t lanes) {
  std::vector<float> block(to_size(lanes * each));
  const std::int64_t count = std::min(lanes, channels - first);
  if (values) std::copy_n(values + first * each, count * each, block.data());
  return block;
}

ImageShape image_of(const Shape& s, std::int64_t channels) { return {s[2], s[3], channels}; }

// make(weight, bias, lanes) for every block of weight's channels.
template <class Make>
DepthwisePlanes::Blocks make_blocks(const ConvArguments& a, const Make& make) {
  const auto lanes = static_cast<std::int64_t>(transpose_kernels().lanes);
  const std::int64_t channels = a.weight.shape()[0];
  DepthwisePlanes::Blocks blocks;
  for (std::int64_t c = 0; c < channels; c += lanes) {
    const auto weight = block_of(a.weight.data(), channels, a.window.taps(), c, lanes);
    blocks.push_back(
        make(weight.data(), block_of(a.bias_data(), channels, 1, c, lanes).data(), lanes));
  }
  return blocks;
}

}  // namespace

std::shared_ptr<const Op::Impl> depthwise_planes(const ConvArguments& a,
                                                 const Activation& activation) {
  const auto make = [&](const float* weight, const float* bias, std::int64_t lanes) {
    return std::make_unique<DepthwiseRows2d>(image_of(a.input, lanes), image_of(a.output, lanes),
                                             a.window, LayerWeights(weight, bias),
                                             Epilogue(activation), ErrorBound::kElement);
  };
  return std::make_shared<DepthwisePlanes>(a.input, a.output, make_blocks(a, make));
}

std::shared_ptr<const Op::Impl> depthwise_planes_gradient(const ConvArguments& a) {
  const auto make = [&](const float* weight, const float*, std::int64_t lanes) {
    return depthwise_gradient_rows(image_of(a.output, lanes), image_of(a.input, lanes), a.window,
                                   weight);
  };
  return std::make_shared<DepthwisePlanes>(a.output, a.input, make_blocks(a, make));
}

}  // namespace sepconv
