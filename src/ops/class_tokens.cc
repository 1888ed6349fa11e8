#include "ops/class_tokens.h"

#include <algorithm>

#include "base/resample.h"
#include "base/sizes.h"

namespace sepconv {

namespace {

// [outer][from][inner] to [outer][to][inner].
std::vector<double> resample(const std::vector<double>& x, std::size_t outer, std::int64_t from,
                             std::int64_t to, std::size_t inner) {
  std::vector<double> y;
  y.reserve(outer * to_size(to) * inner);
  const auto taps = resample_taps(from, to, ResampleFilter::kCubic);
  for (std::size_t o = 0; o < outer; ++o) {
    for (const ResampleTaps& t : taps) {
      const double* source = x.data() + (o * to_size(from) + to_size(t.first)) * inner;
      for (std::size_t c = 0; c < inner; ++c) {
        double sum = 0;
        for (std::size_t j = 0; j < t.weights.size(); ++j)
          sum += t.weights[j] * source[j * inner + c];
        y.push_back(sum);
      }
    }
  }
  return y;
}

}  // namespace

ClassTokens::ClassTokens(const Shape& in, const float* token, const float* positions,
                         std::int64_t grid)
    : Impl(in, {in[0], in[1], 1 + in[2] * in[3], 1}, Layout::kNHWC, false),
      first_(token, token + in[1]),
      kernels_(&elementwise_kernels()) {
  const std::size_t channels = to_size(in[1]);
  for (std::size_t c = 0; c < channels; ++c) first_[c] += positions[c];
  const float* begin = positions + channels;
  if (in[2] == grid && in[3] == grid) {
    positions_.assign(begin, begin + grid * grid * in[1]);
    return;
  }
  std::vector<double> values(begin, begin + grid * grid * in[1]);
  values = resample(values, 1, grid, in[2], to_size(grid) * channels);
  values = resample(values, to_size(in[2]), grid, in[3], channels);
  for (double v : values) positions_.push_back(static_cast<float>(v));
}

void ClassTokens::run(const float* x, std::span<const float* const>, float* y, std::byte*,
                      const ThreadPool& pool) const {
  pool.parallel_for(to_size(input[0]), [&](std::size_t image) {
    float* to = y + image * (first_.size() + positions_.size());
    std::copy(first_.begin(), first_.end(), to);
    kernels_->add(Epilogue(), x + image * positions_.size(), positions_.data(), to + first_.size(),
                  positions_.size());
  });
}

}  // namespace sepconv
