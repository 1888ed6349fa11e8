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
      kernels_(&vector_math_kernels()) {}

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
  return align_up(to_size(window_.taps()) * sizeof(float*));
}

void PoolRows::run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                        std::byte* workspace) const {
  const float** pixels = Carver(workspace).take<const float*>(to_size(window_.taps()));
  const std::int64_t channels = input().channels;
  if (averages_rows()) {
    for (std::int64_t o = out.begin; o < out.end; ++o) {
      kernels_->sum_row(x.row[o - x.first], to_size(input().width),
                        1.0F / static_cast<float>(input().width), y[o - out.begin],
                        to_size(channels));
    }
    return;
  }
  for (std::int64_t o = out.begin; o < out.end; ++o) {
    const RowRange rows = input_rows({o, o + 1});
    for (std::int64_t j = 0; j < output().width; ++j) {
      const RowRange columns = positions(window_.columns, {j, j + 1}, input().width);
      std::size_t count = 0;
      for (std::int64_t r = rows.begin; r < rows.end; ++r) {
        for (std::int64_t c = columns.begin; c < columns.end; ++c) {
          pixels[count++] = x.row[r - x.first] + c * channels;
        }
      }
      float* to = y[o - out.begin] + j * output_pixel();
      if (kind_ == Pool::kMax && count > 0) {
        kernels_->max_pixels(pixels, count, to, to_size(channels));
      } else if (kind_ == Pool::kMax) {
        std::fill_n(to, channels, -std::numeric_limits<float>::infinity());
      } else {
        const std::int64_t divisor =
            count_include_pad_ ? window_.taps()
                               : std::max<std::int64_t>(1, static_cast<std::int64_t>(count));
        kernels_->sum_pixels(pixels, count, 1.0F / static_cast<float>(divisor), to,
                             to_size(channels));
      }
    }
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
