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

}  // namespace

AttentionHeads AttentionHeads::of_thirds(std::int64_t heads, std::int64_t channels) {
  check(heads > 0 && channels > 0 && channels % heads == 0,
        "heads: got {} of {} channels, expected a divisor", heads, channels);
  const std::int64_t depth = channels / heads;
  return {.heads = heads,
          .q = {0, depth, depth},
          .k = {channels, depth, depth},
          .v = {2 * channels, depth, depth},
          .scale = 1 / std::sqrt(static_cast<double>(depth))};
}

// The right side of a product: `k` rows of `columns`.
struct Attention::Panels {
  const float* data;
  std::size_t k, columns;
};

Attention::Windows::Windows(const Shape& of, const AttentionWindow& window)
    : pixels(to_size(of[2] * of[3])) {
  const Size2d size = window.whole() ? Size2d(of[2], of[3]) : window.size;
  const Size2d count(of[2] / size.height, of[3] / size.width);
  const auto each = [&](Size2d of_these, Size2d step, std::vector<std::size_t>& to) {
    for (std::int64_t r = 0; r < of_these.height; ++r) {
      for (std::int64_t c = 0; c < of_these.width; ++c) {
        to.push_back(to_size(r * step.height * of[3] + c * step.width));
      }
    }
  };
  each(size, window.dilated ? count : Size2d(1), tokens);
  each(count, window.dilated ? Size2d(1) : size, first);
}

Attention::Source::Source(const Shape& of, const HeadChannels& head, const AttentionWindow& window)
    : windows(of, window), step(to_size(of[1])), depth(to_size(head.count)), channels(head) {}

const float* Attention::Source::head(const float* x, std::size_t image, std::size_t window,
                                     std::size_t head) const {
  return x + (image * windows.pixels + windows.first[window]) * step + to_size(channels.first) +
         head * to_size(channels.step);
}

Attention::Attention(const Shape& queries, const Shape& keys, const Shape& values,
                     const AttentionHeads& heads, const AttentionWindow& window, const float* bias)
    : Impl(queries, {queries[0], heads.heads * heads.v.count, queries[2], queries[3]},
           Layout::kNHWC, false),
      heads_(to_size(heads.heads)),
      q_(queries, heads.q, window),
      k_(keys, heads.k, window),
      v_(values, heads.v, window),
      scale_(static_cast<float>(heads.scale)),
      gemm_(&gemm_kernels()),
      math_(&norm_kernels()),
      no_bias_(make_aligned<float>(gemm_->columns)) {
  padded_ = divide_up(k_.tokens(), gemm_->columns) * gemm_->columns;
  wide_depth_ = divide_up(v_.depth, gemm_->columns) * gemm_->columns;
  amx_ = AmxSet::choose(q_.tokens(), k_.tokens(), k_.depth);
  if (!AmxSet::choose(q_.tokens(), v_.depth, v_.tokens())) amx_.reset();
  queries_ = amx_ ? kAmxTiles * kAmxRows : kTiles * gemm_->rows;
  if (!bias) return;
  const std::size_t rows = heads_ * q_.tokens();
  bias_ = make_aligned<float>(rows * padded_);
  for (std::size_t i = 0; i < rows; ++i) {
    std::copy_n(bias + i * k_.tokens(), k_.tokens(), bias_.get() + i * padded_);
  }
}

// What one of the two products needs.
std::size_t Attention::product_bytes() const {
  const std::size_t sums = align_up(queries_ * gemm_->columns * sizeof(float));
  if (!amx_) return sums;
  return sums + std::max(amx_->workspace_bytes(queries_, 1, k_.depth),
                         amx_->workspace_bytes(queries_, 1, v_.tokens()));
}

std::size_t Attention::thread_bytes() const {
  return align_up(k_.depth * padded_ * sizeof(float)) +
         align_up(v_.tokens() * wide_depth_ * sizeof(float)) +
         align_up(queries_ * padded_ * sizeof(float)) +
         (has_windows() ? align_up(queries_ * (q_.depth + v_.depth) * sizeof(float)) : 0) +
         product_bytes();
}

std::size_t Attention::workspace_bytes(int threads) const {
  return thread_bytes() * to_size(threads);
}

// Panel p is [depth][columns]: keys of `columns` tokens, transposed, scaled.
void Attention::pack_keys(const float* keys, float* panels) const {
  const std::size_t depth = k_.depth, wide = gemm_->columns;
  std::fill_n(panels, depth * padded_, 0.0F);
  for (std::size_t first = 0; first < k_.tokens(); first += wide, panels += depth * wide) {
    const std::size_t count = std::min(wide, k_.tokens() - first);
    const std::size_t width = gemm_->panel_width(count);
    for (std::size_t j = 0; j < count; ++j) {
      const float* key = k_.token(keys, first + j);
      for (std::size_t i = 0; i < depth; ++i) panels[i * width + j] = key[i] * scale_;
    }
    for (std::size_t i = 0; i < depth; ++i) finish_panel_row(*gemm_, count, panels + i * width);
  }
}

// Panel p is [tokens][columns of the depth].
void Attention::pack_values(const float* values, float* panels) const {
  const std::size_t wide = gemm_->columns;
  for (std::size_t first = 0; first < v_.depth; first += wide, panels += v_.tokens() * wide) {
    const std::size_t count = std::min(wide, v_.depth - first);
    const std::size_t width = gemm_->panel_width(count);
    for (std::size_t t = 0; t < v_.tokens(); ++t) {
      float* row = panels + t * width;
      std::copy_n(v_.token(values, t) + first, count, row);
      std::fill(row + count, row + width, 0.0F);
      finish_panel_row(*gemm_, count, row);
    }
  }
}

// rows.y[columns] = rows.taps[0] · b + rows.residual.
void Attention::multiply(const Panels& b, const PixelRun& rows, std::size_t a_step,
                         std::size_t c_step, std::byte* workspace) const {
  Carver carver(workspace);
  float* sums = carver.take<float>(queries_ * gemm_->columns);
  const std::size_t wide = gemm_->columns;
  GemmTile tile{};
  tile.a_step = a_step;
  tile.taps = 1;
  tile.k = b.k;
  tile.bias = no_bias_.get();
  tile.c_step = c_step;
  std::optional<AmxProduct> amx;
  if (amx_) amx.emplace(*amx_, tile, &rows, rows.pixels, carver.rest());
  for (std::size_t first = 0; first < b.columns; first += wide) {
    tile.b = b.data + first * b.k;
    tile.columns = std::min(wide, b.columns - first);
    tile.ahead = reinterpret_cast<const char*>(tile.b);
    const std::size_t width = gemm_->panel_width(tile.columns);
    if (amx && amx_->splits(tile.b, b.k, width)) {
      amx->multiply(tile, first);
    } else {
      multiply_by_fma(tile, rows, first, sums);
    }
  }
}

void Attention::multiply_by_fma(GemmTile tile, const PixelRun& rows, std::size_t column,
                                float* sums) const {
  tile.a = rows.taps;
  for (tile.start = 0; tile.start < tile.k; tile.start += tile.count) {
    tile.count = std::min(kGemmPart, tile.k - tile.start);
    tile.sums = sums;
    tile.a_offset = 0;
    tile.c = rows.y + column;
    tile.residual = rows.residual ? rows.residual + column : nullptr;
    multiply_rows(*gemm_, tile, rows.pixels);
  }
}

// The channels of a head in some queries of a window, one after the other.
void Attention::collect(const float* queries, std::size_t first, std::size_t rows,
                        float* to) const {
  for (std::size_t i = 0; i < rows; ++i, to += q_.depth) {
    std::copy_n(q_.token(queries, first + i), q_.depth, to);
  }
}

// Results that lie one after the other to their pixels.
void Attention::spread(const float* results, std::size_t first, std::size_t rows, float* y) const {
  for (std::size_t i = 0; i < rows; ++i, results += v_.depth) {
    std::copy_n(results, v_.depth, y + q_.windows.tokens[first + i] * to_size(output[1]));
  }
}

void Attention::run_head(const Head& head, std::byte* workspace) const {
  const std::size_t channels = to_size(output[1]);
  Carver carver(workspace);
  float* keys = carver.take<float>(k_.depth * padded_);
  float* values = carver.take<float>(v_.tokens() * wide_depth_);
  float* scores = carver.take<float>(queries_ * padded_);
  float* together = has_windows() ? carver.take<float>(queries_ * (q_.depth + v_.depth)) : nullptr;
  float* results = together + (together ? queries_ * q_.depth : 0);
  pack_keys(head.k, keys);
  pack_values(head.v, values);
  for (std::size_t first = 0; first < q_.tokens(); first += queries_) {
    const std::size_t rows = std::min(queries_, q_.tokens() - first);
    const float *queries = q_.token(head.q, first), *weights = scores;
    const float* bias = head.bias ? head.bias + first * padded_ : nullptr;
    float* y = head.y + q_.windows.tokens[first] * channels;
    if (together) {
      collect(head.q, first, rows, together);
      queries = together;
      y = results;
    }
    multiply({keys, k_.depth, k_.tokens()}, {&queries, scores, bias, rows},
             together ? q_.depth : q_.step, padded_, carver.rest());
    for (std::size_t i = 0; i < rows; ++i) {
      float* row = scores + i * padded_;
      math_->softmax(row, row, k_.tokens());
    }
    multiply({values, v_.tokens(), v_.depth}, {&weights, y, nullptr, rows}, padded_,
             together ? v_.depth : channels, carver.rest());
    if (together) spread(results, first, rows, head.y);
  }
}

void Attention::run(const float* q, std::span<const float* const> sides, float* y,
                    std::byte* workspace, const ThreadPool& pool) const {
  const std::size_t windows = q_.windows.first.size(), bytes = thread_bytes();
  const std::size_t all = to_size(input[0]) * windows * heads_;
  const std::size_t parts = std::min(to_size(pool.threads()), all);
  pool.parallel_for(parts, [&](std::size_t part) {
    for (std::size_t i = all * part / parts; i < all * (part + 1) / parts; ++i) {
      const std::size_t head = i % heads_, window = i / heads_ % windows;
      const std::size_t image = i / heads_ / windows;
      const std::size_t pixel = image * q_.windows.pixels + q_.windows.first[window];
      run_head({.q = q_.head(q, image, window, head),
                .k = k_.head(sides[0], image, window, head),
                .v = v_.head(sides[1], image, window, head),
                .bias = bias_ ? bias_.get() + head * q_.tokens() * padded_ : nullptr,
                .y = y + pixel * to_size(output[1]) + head * v_.depth},
               workspace + part * bytes);
    }
  });
}

std::string Attention::describe() const {
  const std::string kernel = amx_ ? AmxSet::describe() : gemm_->describe();
  const std::string depth = k_.depth == v_.depth ? fmt::format("{}", k_.depth)
                                                 : fmt::format("{} and {}", k_.depth, v_.depth);
  const std::size_t windows = q_.windows.first.size();
  const std::string where = windows > 1 ? fmt::format("{} windows, ", windows) : "";
  return fmt::format("attention, {}{} heads of {}, {}", where, heads_, depth, kernel);
}

double Attention::flops() const {
  const auto scores = static_cast<double>(input[0]) * static_cast<double>(heads_) *
                      static_cast<double>(q_.windows.pixels) * static_cast<double>(k_.tokens());
  return 2.0 * scores * static_cast<double>(k_.depth + v_.depth);
}

}  // namespace sepconv
