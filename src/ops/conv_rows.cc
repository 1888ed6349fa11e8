#include "ops/conv_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace sepconv {

namespace {
std::size_t to_size(std::int64_t n) { return static_cast<std::size_t>(n); }
std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
}  // namespace

// Input rows that taps can be read from without regard to borders.
struct ConvRows::Sources {
  const float* const* row;  // row[i] is (padded) image row first + i; padding rows included
  std::int64_t first;
};

ConvRows::ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                   std::int64_t groups, const float* weight, const float* bias,
                   const Epilogue& epilogue)
    : RowOp(input, output),
      window_(window),
      groups_(groups),
      epilogue_(epilogue),
      kernels_(&gemm_kernels()) {
  // Adjacent taps of a row are adjacent floats, so that they make one longer run.
  const bool joined = groups == 1 && window.columns.dilation == 1;
  taps_ = to_size(joined ? window.rows.size : window.taps());
  k_ = to_size(input.channels / groups * (joined ? window.columns.size : 1));
  const std::int64_t reach = (output.width - 1) * window.columns.stride + extent(window.columns);
  const std::int64_t below = (output.height - 1) * window.rows.stride + extent(window.rows);
  copies_rows_ = window.columns.pad > 0 || window.rows.pad > 0 ||
                 reach - window.columns.pad > input.width || below - window.rows.pad > input.height;
  pack(weight, bias);
}

void ConvRows::pack(const float* weight, const float* bias) {
  const std::size_t lanes = kernels_->lanes, wide = kernels_->columns;
  const std::size_t n = to_size(output().channels / groups_);
  const std::size_t channels = to_size(input().channels / groups_);
  const std::size_t window_taps = to_size(window_.taps());
  const std::size_t depth = window_taps * channels;
  panels_ = divide_up(n, wide);
  panel_floats_ = depth * wide;
  weight_floats_ = to_size(groups_) * panels_ * panel_floats_;
  weights_ = make_aligned<float>(weight_floats_);
  bias_ = make_aligned<float>(to_size(groups_) * panels_ * wide);
  for (std::size_t g = 0; g < to_size(groups_); ++g) {
    for (std::size_t p = 0; p < panels_; ++p) {
      const std::size_t first = p * wide, columns = std::min(wide, n - first);
      const std::size_t width = divide_up(columns, lanes) * lanes;
      float* panel = weights_.get() + (g * panels_ + p) * panel_floats_;
      for (std::size_t j = 0; j < columns; ++j) {
        const std::size_t out = g * n + first + j;
        const float* w = weight + out * depth;
        for (std::size_t c = 0; c < channels; ++c) {
          for (std::size_t t = 0; t < window_taps; ++t) {
            panel[(t * channels + c) * width + j] = w[c * window_taps + t];
          }
        }
        bias_[(g * panels_ + p) * wide + j] = bias ? bias[out] : 0.0F;
      }
    }
  }
}

RowRange ConvRows::input_rows(RowRange out) const {
  return positions(window_.rows, out, input().height);
}

std::size_t ConvRows::workspace_bytes(std::int64_t rows) const {
  const std::size_t pixels = to_size(rows * output().width);
  std::size_t bytes =
      align_up(pixels * taps_ * sizeof(float*)) + 2 * align_up(pixels * sizeof(float*));
  const std::size_t source_rows = to_size((rows - 1) * window_.rows.stride + extent(window_.rows));
  bytes += align_up(source_rows * sizeof(float*));
  if (copies_rows_) {
    const std::int64_t reach =
        (output().width - 1) * window_.columns.stride + extent(window_.columns);
    bytes += (source_rows + 1) * align_up(to_size(reach * input().channels) * sizeof(float));
  }
  return bytes;
}

ConvRows::Sources ConvRows::pad_rows(RowRange out, const InputRows& x,
                                     std::byte*& workspace) const {
  const std::int64_t first = out.begin * window_.rows.stride - window_.rows.pad;
  const std::int64_t count = (out.size() - 1) * window_.rows.stride + extent(window_.rows);
  Carver carver(workspace);
  const float** rows = carver.take<const float*>(to_size(count));
  if (!copies_rows_) {
    for (std::int64_t i = 0; i < count; ++i) rows[i] = x.row[first + i - x.first];
    workspace = carver.rest();
    return {rows, first};
  }
  const std::int64_t channels = input().channels;
  const std::int64_t reach =
      (output().width - 1) * window_.columns.stride + extent(window_.columns);
  const std::int64_t left = window_.columns.pad;
  const std::int64_t inside = std::clamp<std::int64_t>(reach - left, 0, input().width);
  const std::int64_t left_floats = std::min(left, reach) * channels;
  float* zeros = carver.take<float>(to_size(reach * channels));
  std::fill_n(zeros, reach * channels, 0.0F);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t r = first + i;
    if (r < 0 || r >= input().height) {
      rows[i] = zeros;
      continue;
    }
    float* row = carver.take<float>(to_size(reach * channels));
    std::fill_n(row, left_floats, 0.0F);
    std::memcpy(row + left_floats, x.row[r - x.first], to_size(inside * channels) * sizeof(float));
    std::fill(row + left_floats + inside * channels, row + reach * channels, 0.0F);
    rows[i] = row;
  }
  workspace = carver.rest();
  return {rows, first};
}

void ConvRows::run_rows(RowRange out, const InputRows& x, const float* const* residual,
                        float* const* y, std::byte* workspace) const {
  const Sources source = pad_rows(out, x, workspace);
  const std::size_t width = to_size(output().width);
  const std::size_t pixels = to_size(out.size()) * width;
  Carver carver(workspace);
  const float** a = carver.take<const float*>(pixels * taps_);
  float** c = carver.take<float*>(pixels);
  const float** add = carver.take<const float*>(pixels);
  const std::size_t out_channels = to_size(output().channels);
  for (std::size_t r = 0, m = 0; r < to_size(out.size()); ++r) {
    for (std::size_t j = 0; j < width; ++j, ++m) {
      c[m] = y[r] + j * out_channels;
      if (residual) add[m] = residual[r] + j * out_channels;
    }
  }
  const std::size_t per_row = taps_ / to_size(window_.rows.size);
  const std::size_t step = to_size(window_.columns.stride * input().channels);
  const std::size_t tap_step = to_size(window_.columns.dilation * input().channels);
  const float** next = a;
  for (std::size_t ky = 0; ky < to_size(window_.rows.size); ++ky) {
    for (std::size_t kx = 0; kx < per_row; ++kx) {
      for (std::int64_t r = 0; r < out.size(); ++r) {
        const std::int64_t at =
            r * window_.rows.stride + static_cast<std::int64_t>(ky) * window_.rows.dilation;
        const float* p = source.row[at] + kx * tap_step;
        for (std::size_t j = 0; j < width; ++j) *next++ = p + j * step;
      }
    }
  }
  multiply(pixels, a, residual ? add : nullptr, c);
}

// Of what comes next, more would push this op's own pixels out of L2.
constexpr std::size_t kMostAhead = std::size_t{128} << 10;

// Panel by panel, so that a panel stays in L1 while the band's rows pass; the band is sized for L2.
void ConvRows::multiply(std::size_t pixels, const float* const* a, const float* const* residual,
                        float* const* c) const {
  // Tiles of nearly equal height: one of a few rows would take as long as a whole one.
  const std::size_t tiles = divide_up(pixels, kernels_->rows);
  const std::size_t height = pixels / tiles, taller = pixels % tiles;
  const std::size_t n = to_size(output().channels / groups_);
  for (std::size_t g = 0; g < to_size(groups_); ++g) {
    for (std::size_t p = 0; p < panels_; ++p) {
      GemmTile tile{};
      tile.a_tap_stride = pixels;
      tile.a_offset = g * to_size(input().channels / groups_);
      tile.taps = taps_;
      tile.k = k_;
      tile.b = weights_.get() + (g * panels_ + p) * panel_floats_;
      tile.bias = bias_.get() + (g * panels_ + p) * kernels_->columns;
      tile.column = g * n + p * kernels_->columns;
      tile.columns = std::min(kernels_->columns, n - p * kernels_->columns);
      tile.epilogue = epilogue_;
      const bool last = g + 1 == to_size(groups_) && p + 1 == panels_;
      const auto next = last ? next_.first(std::min(next_.size(), kMostAhead))
                             : std::as_bytes(std::span(tile.b + panel_floats_, panel_floats_));
      tile.ahead = reinterpret_cast<const char*>(next.data());
      tile.ahead_step = next.size() / (tiles * taps_ * k_);
      const std::size_t vectors = divide_up(tile.columns, kernels_->lanes);
      const auto run = [&](std::size_t first, std::size_t rows, std::size_t count) {
        tile.a = a + first;
        tile.c = c + first;
        tile.residual = residual ? residual + first : nullptr;
        if (count > 0) kernels_->tile[rows - 1][vectors - 1](tile, count);
        tile.ahead += tile.ahead_step * taps_ * k_ * count;
      };
      run(0, height + 1, taller);
      run(taller * (height + 1), height, tiles - taller);
    }
  }
}

double ConvRows::flops() const {
  return 2.0 * static_cast<double>(output().height * output().row_floats()) *
         static_cast<double>(window_.taps() * (input().channels / groups_));
}

std::string ConvRows::describe() const {
  const std::string kind = window_.taps() == 1
                               ? "pointwise"
                               : fmt::format("conv {}x{}", window_.rows.size, window_.columns.size);
  const std::string group = groups_ > 1 ? fmt::format(" g{}", groups_) : "";
  const std::string stride =
      window_.rows.stride > 1 ? fmt::format(" s{}", window_.rows.stride) : "";
  return fmt::format("{}{}{} gemm {}x{}", kind, group, stride, kernels_->rows, kernels_->columns);
}

}  // namespace sepconv
