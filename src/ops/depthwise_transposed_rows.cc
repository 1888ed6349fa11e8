#include "ops/depthwise_transposed_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/sizes.h"

namespace sepconv {

DepthwiseTransposedRows::DepthwiseTransposedRows(const ImageShape& input, const ImageShape& output,
                                                 const Window2d& window, const float* weight)
    : RowOp(input, output),
      window_(window),
      kernels_(&depthwise_transposed_kernels()),
      pitch_(divide_up(to_size(input.channels), kernels_->lanes) * kernels_->lanes),
      packed_(to_size(window.taps()) * pitch_, 0) {
  const std::size_t taps = to_size(window.taps());
  for (std::size_t c = 0; c < to_size(input.channels); ++c) {
    for (std::size_t t = 0; t < taps; ++t) packed_.weights.get()[t * pitch_ + c] = *weight++;
  }
}

bool DepthwiseTransposedRows::pays(const Window2d& window) {
  const auto fits = [](const Window& w) {
    return w.dilation == 1 && (w.size + w.stride - 1) / w.stride <= kMostTransposedTaps;
  };
  const bool strides = window.rows.stride > 1 && window.columns.stride > 1;
  return strides && fits(window.rows) && fits(window.columns);
}

RowRange DepthwiseTransposedRows::input_rows(RowRange out) const {
  const Window& w = window_.rows;
  if (out.size() == 0) return {0, 0};
  const std::int64_t first = std::max<std::int64_t>(0, out.begin + w.pad - w.size + 1);
  const RowRange rows{(first + w.stride - 1) / w.stride,
                      std::min(input().height, (out.end - 1 + w.pad) / w.stride + 1)};
  return rows.size() > 0 ? rows : RowRange{0, 0};
}

void DepthwiseTransposedRows::run_rows(RowRange out, const InputRows& x, const float* const*,
                                       float* const* y, std::byte*) const {
  const Window& w = window_.rows;
  const float* in[kMostTransposedTaps];
  const float* weights[kMostTransposedTaps];
  DepthwiseTransposedRow row{};
  row.in = in;
  row.weights = weights;
  row.in_width = input().width;
  row.out_width = output().width;
  row.out_pixel = to_size(output_pixel());
  row.channels = to_size(input().channels);
  row.pitch = pitch_;
  row.columns = window_.columns;
  for (std::int64_t r = out.begin; r < out.end; ++r) {
    row.count = 0;
    for (std::int64_t tap = (r + w.pad) % w.stride; tap < w.size; tap += w.stride) {
      const std::int64_t from = (r + w.pad - tap) / w.stride;
      if (r + w.pad < tap || from >= input().height) continue;
      in[row.count] = x.row[from - x.first];
      weights[row.count++] = packed_.weights.get() + to_size(tap * window_.columns.size) * pitch_;
    }
    row.out = y[r - out.begin];
    row.streams = past_caches_ && row.out_pixel % kernels_->lanes == 0 && is_aligned(row.out);
    kernels_->row(row);
  }
}

double DepthwiseTransposedRows::flops() const {
  return 2.0 * static_cast<double>(input().height * input().row_floats() * window_.taps());
}

std::string DepthwiseTransposedRows::describe() const {
  return fmt::format("depthwise transposed {}x{} s{}", window_.rows.size, window_.columns.size,
                     window_.rows.stride);
}

}  // namespace sepconv
