#include "ops/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/sizes.h"

namespace sepconv {

namespace {

// Queries at a time: four register tiles, so that a panel is read from L2 rarely, and more where
// it is split for each time.
constexpr std::size_t kTiles = 4, kAmxTiles = 8;

Shape result_shape(const Shape& input, std::int64_t heads) {
  check(input.rank() == 4 && heads > 0 && input[1] % (3 * heads) == 0,
        "x: shape is {}, expected [N, C, T, 1] with channels a multiple of 3 x {} heads",
        to_string(input), heads);
  return {input[0], input[1] / 3, input[2], input[3]};
}

}  // namespace

// The right side of a product: `k` rows of `columns`.
struct Attention::Panels {
  const float* data;
  std::size_t k, columns;
};

Attention::Attention(const Shape& in, std::int64_t heads)
    : Impl(in, result_shape(in, heads), Layout::kNHWC, false),
      heads_(to_size(heads)),
      tokens_(to_size(in[2] * in[3])),
      depth_(to_size(in[1] / (3 * heads))),
      gemm_(&gemm_kernels()),
      math_(&vector_math_kernels()),
      no_bias_(make_aligned<float>(gemm_->columns)) {
  padded_ = divide_up(tokens_, gemm_->columns) * gemm_->columns;
  wide_depth_ = divide_up(depth_, gemm_->columns) * gemm_->columns;
  // The product with values is of the same size.
  amx_ = AmxSet::choose(tokens_, tokens_, depth_);
  queries_ = amx_ ? kAmxTiles * kAmxRows : kTiles * gemm_->rows;
}

// What one of the two products needs.
std::size_t Attention::product_bytes() const {
  if (!amx_) return align_up(queries_ * gemm_->columns * sizeof(float));
  return align_up(queries_ * gemm_->columns * sizeof(float)) +
         std::max(amx_->workspace_bytes(queries_, 1, depth_),
                  amx_->workspace_bytes(queries_, 1, tokens_));
}

std::size_t Attention::thread_bytes() const {
  return align_up(depth_ * padded_ * sizeof(float)) +
         align_up(tokens_ * wide_depth_ * sizeof(float)) +
         align_up(queries_ * padded_ * sizeof(float)) + product_bytes();
}

std::size_t Attention::workspace_bytes(int threads) const {
  return thread_bytes() * to_size(threads);
}

// Panel p is [depth][columns]: keys of `columns` tokens, transposed, times 1 / √depth.
void Attention::pack_keys(const float* keys, float* panels) const {
  const std::size_t step = to_size(input[1]), wide = gemm_->columns;
  const float scale = 1.0F / std::sqrt(static_cast<float>(depth_));
  std::fill_n(panels, depth_ * padded_, 0.0F);
  for (std::size_t first = 0; first < tokens_; first += wide, panels += depth_ * wide) {
    const std::size_t count = std::min(wide, tokens_ - first);
    const std::size_t width = gemm_->panel_width(count);
    for (std::size_t j = 0; j < count; ++j) {
      const float* key = keys + (first + j) * step;
      for (std::size_t i = 0; i < depth_; ++i) panels[i * width + j] = key[i] * scale;
    }
    for (std::size_t i = 0; i < depth_; ++i) finish_panel_row(*gemm_, count, panels + i * width);
  }
}

// Panel p is [tokens][columns of the depth].
void Attention::pack_values(const float* values, float* panels) const {
  const std::size_t step = to_size(input[1]), wide = gemm_->columns;
  for (std::size_t first = 0; first < depth_; first += wide, panels += tokens_ * wide) {
    const std::size_t count = std::min(wide, depth_ - first);
    const std::size_t width = gemm_->panel_width(count);
    for (std::size_t t = 0; t < tokens_; ++t) {
      float* row = panels + t * width;
      std::copy_n(values + t * step + first, count, row);
      std::fill(row + count, row + width, 0.0F);
      finish_panel_row(*gemm_, count, row);
    }
  }
}

// c[rows][columns] = a · b.
void Attention::multiply(const Panels& b, const float* a, std::size_t a_step, std::size_t rows,
                         float* c, std::size_t c_step, std::byte* workspace) const {
  Carver carver(workspace);
  float* sums = carver.take<float>(queries_ * gemm_->columns);
  const std::size_t wide = gemm_->columns;
  GemmTile tile{};
  tile.a_step = a_step;
  tile.taps = 1;
  tile.k = b.k;
  tile.bias = no_bias_.get();
  tile.c_step = c_step;
  const PixelRun run{&a, c, nullptr, rows};
  std::optional<AmxProduct> amx;
  if (amx_) amx.emplace(*amx_, tile, &run, rows, carver.rest());
  for (std::size_t first = 0; first < b.columns; first += wide) {
    tile.b = b.data + first * b.k;
    tile.columns = std::min(wide, b.columns - first);
    tile.ahead = reinterpret_cast<const char*>(tile.b);
    const std::size_t width = gemm_->panel_width(tile.columns);
    if (amx && amx_->splits(tile.b, b.k, width)) {
      amx->multiply(tile, first);
    } else {
      multiply_by_fma(tile, a, rows, c + first, sums);
    }
  }
}

void Attention::multiply_by_fma(GemmTile tile, const float* a, std::size_t rows, float* c,
                                float* sums) const {
  tile.a = &a;
  for (tile.start = 0; tile.start < tile.k; tile.start += tile.count) {
    tile.count = std::min(kGemmPart, tile.k - tile.start);
    tile.sums = sums;
    tile.a_offset = 0;
    tile.c = c;
    multiply_rows(*gemm_, tile, rows);
  }
}

void Attention::run_head(const float* x, float* y, std::byte* workspace) const {
  const std::size_t step = to_size(input[1]), channels = to_size(output[1]);
  Carver carver(workspace);
  float* keys = carver.take<float>(depth_ * padded_);
  float* values = carver.take<float>(tokens_ * wide_depth_);
  float* scores = carver.take<float>(queries_ * padded_);
  pack_keys(x + channels, keys);
  pack_values(x + 2 * channels, values);
  for (std::size_t first = 0; first < tokens_; first += queries_) {
    const std::size_t rows = std::min(queries_, tokens_ - first);
    multiply({keys, depth_, tokens_}, x + first * step, step, rows, scores, padded_, carver.rest());
    for (std::size_t i = 0; i < rows; ++i) {
      float* row = scores + i * padded_;
      math_->softmax(row, row, tokens_);
    }
    multiply({values, tokens_, depth_}, scores, padded_, rows, y + first * channels, channels,
             carver.rest());
  }
}

void Attention::run(const float* x, std::span<const float* const>, float* y, std::byte* workspace,
                    const ThreadPool& pool) const {
  const std::size_t all = to_size(input[0]) * heads_, bytes = thread_bytes();
  const std::size_t parts = std::min(to_size(pool.threads()), all);
  pool.parallel_for(parts, [&](std::size_t part) {
    for (std::size_t i = all * part / parts; i < all * (part + 1) / parts; ++i) {
      const std::size_t image = i / heads_, head = i % heads_;
      run_head(x + image * tokens_ * to_size(input[1]) + head * depth_,
               y + image * tokens_ * to_size(output[1]) + head * depth_, workspace + part * bytes);
    }
  });
}

std::string Attention::describe() const {
  return fmt::format("attention, {} heads of {}, {}", heads_, depth_,
                     amx_ ? AmxSet::describe() : gemm_->describe());
}

double Attention::flops() const {
  return 4.0 * static_cast<double>(output.elements()) * static_cast<double>(tokens_);
}

}  // namespace sepconv
