#include "ops/resize_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/aligned.h"
#include "base/sizes.h"

namespace sepconv {

namespace {

constexpr std::size_t kMostTaps = 4;  // of a cubic

}  // namespace

ResizeRows::ResizeRows(const ImageShape& input, std::vector<Taps> rows, std::vector<Taps> columns)
    : RowOp(input, {static_cast<std::int64_t>(rows.size()),
                    static_cast<std::int64_t>(columns.size()), input.channels}),
      rows_(std::move(rows)),
      columns_(std::move(columns)),
      kernels_(&reduction_kernels()) {}

RowRange ResizeRows::input_rows(RowRange out) const {
  RowRange need{input().height, 0};
  for (std::int64_t r = out.begin; r < out.end; ++r) {
    const Taps& t = rows_[to_size(r)];
    need.begin = std::min(need.begin, t.first);
    need.end = std::max(need.end, t.first + static_cast<std::int64_t>(t.weights.size()));
  }
  return need;
}

std::size_t ResizeRows::workspace_bytes(std::int64_t) const {
  return align_up(to_size(input().row_floats()) * sizeof(float));
}

void ResizeRows::resize_row(const float* from, float* to) const {
  const std::int64_t channels = input().channels;
  std::array<const float*, kMostTaps> pixels{};
  for (const Taps& t : columns_) {
    const float* first = from + t.first * channels;
    if (t.copies()) {
      std::copy_n(first, channels, to);
    } else {
      for (std::size_t i = 0; i < t.weights.size(); ++i) {
        pixels[i] = first + static_cast<std::int64_t>(i) * channels;
      }
      kernels_->weighted_sum(pixels.data(), t.weights.data(), t.weights.size(), to,
                             to_size(channels));
    }
    to += output_pixel();
  }
}

void ResizeRows::run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                          std::byte* workspace) const {
  float* between = Carver(workspace).take<float>(to_size(input().row_floats()));
  for (std::int64_t r = out.begin; r < out.end; ++r) {
    const Taps& t = rows_[to_size(r)];
    float* to = y[r - out.begin];
    const bool dense = output_pixel() == output().channels;
    if (dense && r > out.begin && rows_[to_size(r - 1)] == t) {
      std::copy_n(y[r - 1 - out.begin], output().row_floats(), to);
      continue;
    }
    const float* const* first = x.row + (t.first - x.first);
    if (!t.copies()) {
      kernels_->weighted_sum(first, t.weights.data(), t.weights.size(), between,
                             to_size(input().row_floats()));
    }
    resize_row(t.copies() ? *first : between, to);
  }
}

double ResizeRows::flops() const {
  double sum = 0;
  const auto add = [&sum](const Taps& t, std::int64_t floats) {
    if (!t.copies()) sum += 2.0 * static_cast<double>(t.weights.size()) * double(floats);
  };
  for (const Taps& t : rows_) add(t, input().row_floats());
  for (const Taps& t : columns_) add(t, output().height * input().channels);
  return sum;
}

std::string ResizeRows::describe() const {
  return fmt::format("resize {}x{}", output().height, output().width);
}

}  // namespace sepconv
