#include "ops/pool_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/aligned.h"
#include "base/sizes.h"

namespace sepconv {

PoolRows::PoolRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                   Pool kind, bool count_include_pad)
    : RowOp(input, output),
      window_(window),
      kind_(kind),
      count_include_pad_(count_include_pad),
      kernels_(&reduction_kernels()) {}

RowRange PoolRows::input_rows(RowRange out) const {
  return positions(window_.rows, out, input().height);
}

// Whether each output row is the mean of one input row.
bool PoolRows::averages_rows() const {
  const Window &r = window_.rows, &c = window_.columns;
  return kind_ == Pool::kAverage && r.size == 1 && r.stride == 1 && r.pad == 0 && c.pad == 0 &&
         c.size == input().width;
}

std::size_t PoolRows::workspace_bytes(std::int64_t) const {
  const std::int64_t pointers = std::max(window_.rows.size, window_.columns.size);
  return align_up(to_size(pointers) * sizeof(float*)) +
         align_up(to_size(input().row_floats()) * sizeof(float));
}

// y[c] of `count` runs of floats.
void PoolRows::pool(const float* const* runs, std::size_t count, float scale, float* y,
                    std::size_t floats) const {
  if (kind_ == Pool::kAverage) {
    kernels_->sum_pixels(runs, count, scale, y, floats);
  } else if (count > 0) {
    kernels_->max_pixels(runs, count, y, floats);
  } else {
    std::fill_n(y, floats, -std::numeric_limits<float>::infinity());
  }
}

// First the rows of a line of windows, which every column does for several of these, then each
// window's columns.
void PoolRows::run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                        std::byte* workspace) const {
  const std::size_t channels = to_size(input().channels);
  if (averages_rows()) {
    for (std::int64_t o = out.begin; o < out.end; ++o) {
      kernels_->sum_row(x.row[o - x.first], to_size(input().width),
                        1.0F / static_cast<float>(input().width), y[o - out.begin], channels);
    }
    return;
  }
  Carver carver(workspace);
  const float** runs =
      carver.take<const float*>(to_size(std::max(window_.rows.size, window_.columns.size)));
  float* const pooled = carver.take<float>(to_size(input().row_floats()));
  for (std::int64_t o = out.begin; o < out.end; ++o) {
    const RowRange rows = input_rows({o, o + 1});
    const float* line = pooled;
    if (rows.size() == 1) {
      line = x.row[rows.begin - x.first];
    } else {
      std::copy_n(x.row + (rows.begin - x.first), to_size(rows.size()), runs);
      pool(runs, to_size(rows.size()), 1, pooled, to_size(input().row_floats()));
    }
    pool_line(line, rows.size(), runs, y[o - out.begin]);
  }
}

void PoolRows::pool_line(const float* line, std::int64_t rows, const float** runs, float* y) const {
  const std::int64_t channels = input().channels;
  for (std::int64_t j = 0; j < output().width; ++j, y += output_pixel()) {
    const RowRange columns = positions(window_.columns, {j, j + 1}, input().width);
    for (std::int64_t c = columns.begin; c < columns.end; ++c) {
      runs[c - columns.begin] = line + c * channels;
    }
    const std::int64_t inside = std::max<std::int64_t>(1, rows * columns.size());
    const std::int64_t divisor = count_include_pad_ ? window_.taps() : inside;
    pool(runs, to_size(columns.size()), 1.0F / static_cast<float>(divisor), y, to_size(channels));
  }
}

double PoolRows::flops() const {
  return static_cast<double>(output().height * output().row_floats() * window_.taps());
}

std::string PoolRows::describe() const {
  return fmt::format("{} pool {}x{}", kind_ == Pool::kMax ? "max" : "average", window_.rows.size,
                     window_.columns.size);
}

}  // namespace sepconv
