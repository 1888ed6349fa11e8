#include "ops/moments.h"

#include <algorithm>

#include "base/aligned.h"
#include "base/sizes.h"

namespace sepconv {

std::size_t Moments::parts() const { return divide_up(pixels_, pixels_of_part(channels_)); }

Moments::Part Moments::part(std::size_t i) const {
  const std::size_t most = pixels_of_part(channels_), first = i * most;
  return {first, std::min(most, pixels_ - first)};
}

std::size_t Moments::row_bytes() const { return align_up(channels_ * sizeof(float)); }

float* Moments::row(std::byte* workspace, std::size_t i) const {
  return reinterpret_cast<float*>(workspace + i * row_bytes());
}

double* Moments::totals(std::byte* workspace) const {
  return reinterpret_cast<double*>(workspace + 2 * parts() * row_bytes());
}

void Moments::run(const float* x, float* mean, float* variance, std::byte* workspace,
                  const ThreadPool& pool) const {
  pool.parallel_for(parts(), [&](std::size_t i) {
    const Part part = this->part(i);
    float* const of_part = row(workspace, 2 * i);
    const float* const pixels = x + part.first * channels_;
    kernels_->sum_row(pixels, part.count, 1.0F / static_cast<float>(part.count), of_part,
                      channels_);
    kernels_->squared_deviations(pixels, of_part, part.count, row(workspace, 2 * i + 1), channels_);
  });
  join(workspace, mean, variance);
}

// As in Chan, Golub and LeVeque, 1979.
void Moments::join(std::byte* workspace, float* mean, float* variance) const {
  double *const means = totals(workspace), *const squares = means + channels_;
  std::fill_n(means, 2 * channels_, 0.0);
  const auto all = static_cast<double>(pixels_);
  for (std::size_t i = 0; i < parts(); ++i) {
    const double share = static_cast<double>(part(i).count) / all;
    const float* const of_part = row(workspace, 2 * i);
    for (std::size_t c = 0; c < channels_; ++c) means[c] += share * static_cast<double>(of_part[c]);
  }
  for (std::size_t i = 0; i < parts(); ++i) {
    const double share = static_cast<double>(part(i).count) / all;
    const float *of_part = row(workspace, 2 * i), *deviations = row(workspace, 2 * i + 1);
    for (std::size_t c = 0; c < channels_; ++c) {
      const double apart = static_cast<double>(of_part[c]) - means[c];
      squares[c] += static_cast<double>(deviations[c]) / all + share * apart * apart;
    }
  }
  for (std::size_t c = 0; c < channels_; ++c) {
    mean[c] = static_cast<float>(means[c]);
    variance[c] = static_cast<float>(squares[c]);
  }
}

}  // namespace sepconv
