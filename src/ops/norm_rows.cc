#include "ops/norm_rows.h"

#include <cmath>

#include "base/aligned.h"
#include "base/sizes.h"

namespace sepconv {

std::size_t ResponseScaleRows::workspace_bytes(std::int64_t) const {
  return align_up(to_size(input().height * input().width) * sizeof(float*));
}

void ResponseScaleRows::run_rows(RowRange, const InputRows& x, const float* const*, float* const* y,
                                 std::byte* workspace) const {
  const std::size_t channels = to_size(input().channels);
  const std::size_t count = to_size(input().height * input().width);
  const float** pixels = Carver(workspace).take<const float*>(count);
  for (std::int64_t r = 0, p = 0; r < input().height; ++r) {
    for (std::int64_t j = 0; j < input().width; ++j, ++p) {
      pixels[p] = x.row[r - x.first] + j * input().channels;
    }
  }
  float* scale = y[0];
  kernels_->sum_squares(pixels, count, scale, channels);
  double sum = 0;
  for (std::size_t c = 0; c < channels; ++c) {
    scale[c] = std::sqrt(scale[c]);
    sum += static_cast<double>(scale[c]);
  }
  const float divisor = static_cast<float>(sum / static_cast<double>(channels)) + epsilon_;
  for (std::size_t c = 0; c < channels; ++c) scale[c] = 1.0F + weight_[c] * scale[c] / divisor;
}

}  // namespace sepconv
