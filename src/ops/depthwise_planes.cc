#include "ops/depthwise_planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/aligned.h"
#include "base/sizes.h"

namespace sepconv {

DepthwisePlanes::DepthwisePlanes(ConvArguments a, const Activation& activation)
    : Impl(a.input, a.output, Layout::kNCHW, false),
      a_(std::move(a)),
      epilogue_(activation),
      kernels_(&depthwise_nchw_kernels()) {
  const Window& w = a_.window.columns;
  const std::int64_t furthest = (w.size - 1) * w.dilation / w.stride;
  const std::size_t lanes = kernels_->lanes;
  phase_floats_ = (to_size(output[3] + furthest) + lanes - 1) / lanes * lanes + kernels_->slack;
  row_floats_ = phase_floats_ * to_size(std::min(w.stride, extent(w)));
  for (std::int64_t kx = 0; kx < w.size; ++kx) {
    const std::int64_t shift = kx * w.dilation;
    tap_offset_.push_back(to_size(shift % w.stride) * phase_floats_ + to_size(shift / w.stride));
  }
}

std::size_t DepthwisePlanes::thread_bytes() const {
  return align_up(to_size(a_.window.rows.size) * sizeof(float*)) +
         align_up(to_size(input[2]) * row_floats_ * sizeof(float));
}

std::size_t DepthwisePlanes::workspace_bytes(int threads) const {
  return thread_bytes() * to_size(threads);
}

void DepthwisePlanes::pad_plane(const float* plane, float* padded) const {
  const Window& w = a_.window.columns;
  const std::int64_t width = input[3];
  const std::int64_t phases = std::min(w.stride, extent(w));
  for (std::int64_t r = 0; r < input[2]; ++r, plane += width, padded += row_floats_) {
    std::fill_n(padded, row_floats_, 0.0F);
    for (std::int64_t p = 0; p < phases; ++p) {
      // Position i of this phase is padded column i·stride + p, image column that − pad.
      const std::int64_t skip = std::max<std::int64_t>(0, (w.pad - p + w.stride - 1) / w.stride);
      float* to = padded + to_size(p) * phase_floats_;
      const std::int64_t capacity = static_cast<std::int64_t>(phase_floats_);
      const std::int64_t first = skip * w.stride + p - w.pad;
      if (first >= width || skip >= capacity) continue;
      const std::int64_t count = std::min((width - 1 - first) / w.stride + 1, capacity - skip);
      if (w.stride == 1) {
        std::memcpy(to + skip, plane + first, to_size(count) * sizeof(float));
      } else {
        for (std::int64_t i = 0; i < count; ++i) to[skip + i] = plane[first + i * w.stride];
      }
    }
  }
}

void DepthwisePlanes::run_plane(const float* plane, std::int64_t channel, float* y,
                                std::byte* workspace) const {
  const Window& rows = a_.window.rows;
  Carver carver(workspace);
  const float** in = carver.take<const float*>(to_size(rows.size));
  float* padded = carver.take<float>(to_size(input[2]) * row_floats_);
  pad_plane(plane, padded);
  DepthwisePlaneRow args{};
  args.in = in;
  args.taps_y = to_size(rows.size);
  args.taps_x = tap_offset_.size();
  args.tap_offset = tap_offset_.data();
  args.weights = a_.weight.data() + channel * a_.window.taps();
  args.bias = a_.bias_data() ? a_.bias_data()[channel] : 0.0F;
  args.out_width = to_size(output[3]);
  args.epilogue = epilogue_;
  for (std::int64_t o = 0; o < output[2]; ++o) {
    for (std::int64_t ky = 0; ky < rows.size; ++ky) {
      const std::int64_t r = o * rows.stride - rows.pad + ky * rows.dilation;
      in[ky] = r >= 0 && r < input[2] ? padded + to_size(r) * row_floats_ : nullptr;
    }
    args.out = y + o * output[3];
    kernels_->row(args);
  }
}

void DepthwisePlanes::run(const float* x, std::span<const float* const>, float* y,
                          std::byte* workspace, const ThreadPool& pool) const {
  const std::int64_t planes = output[0] * output[1], multiplier = output[1] / input[1];
  const std::int64_t parts = std::min<std::int64_t>(pool.threads(), planes);
  const std::size_t bytes = thread_bytes();
  pool.parallel_for(to_size(parts), [&](std::size_t part) {
    const std::int64_t p = static_cast<std::int64_t>(part);
    for (std::int64_t i = planes * p / parts; i < planes * (p + 1) / parts; ++i) {
      run_plane(x + i / multiplier * input[2] * input[3], i % output[1],
                y + i * output[2] * output[3], workspace + part * bytes);
    }
  });
}

std::string DepthwisePlanes::describe() const {
  return fmt::format("depthwise {}x{} planes 4x{}", a_.window.rows.size, a_.window.columns.size,
                     kernels_->lanes);
}

double DepthwisePlanes::flops() const {
  return 2.0 * static_cast<double>(output.elements() * a_.window.taps());
}

}  // namespace sepconv
