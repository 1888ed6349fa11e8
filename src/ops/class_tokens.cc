#include "ops/class_tokens.h"

#include <algorithm>
#include <cmath>

#include "base/sizes.h"

namespace sepconv {

namespace {

// Keys' cubic kernel with a = −1/2.
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// [outer][from][inner] to [outer][to][inner].
std::vector<double> resample(const std::vector<double>& x, std::size_t outer, std::size_t from,
                             std::size_t to, std::size_t inner) {
  std::vector<double> y(outer * to * inner, 0.0);
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double widening = std::max(scale, 1.0), support = 2 * widening;
  for (std::size_t i = 0; i < to; ++i) {
    const double center = scale * (static_cast<double>(i) + 0.5);
    const auto begin = static_cast<std::size_t>(std::max(center - support + 0.5, 0.0));
    const std::size_t end = std::min(from, static_cast<std::size_t>(center + support + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (std::size_t j = begin; j < end; ++j) {
      weights.push_back(cubic((static_cast<double>(j) - center + 0.5) / widening));
      sum += weights.back();
    }
    for (std::size_t o = 0; o < outer; ++o) {
      for (std::size_t j = begin; j < end; ++j) {
        const double w = weights[j - begin] / sum;
        const double* source = x.data() + (o * from + j) * inner;
        double* target = y.data() + (o * to + i) * inner;
        for (std::size_t c = 0; c < inner; ++c) target[c] += w * source[c];
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
      kernels_(&vector_math_kernels()) {
  const std::size_t channels = to_size(in[1]);
  for (std::size_t c = 0; c < channels; ++c) first_[c] += positions[c];
  const float* begin = positions + channels;
  if (in[2] == grid && in[3] == grid) {
    positions_.assign(begin, begin + grid * grid * in[1]);
    return;
  }
  std::vector<double> values(begin, begin + grid * grid * in[1]);
  values = resample(values, 1, to_size(grid), to_size(in[2]), to_size(grid) * channels);
  values = resample(values, to_size(in[2]), to_size(grid), to_size(in[3]), channels);
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
