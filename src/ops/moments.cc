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
  for (std::size_t c = 0; c < channels_; ++c) {
    double sum = 0, squares = 0;
    const auto each_part = [&](const auto& add) {
      for (std::size_t i = 0; i < parts(); ++i) {
        add(static_cast<double>(part(i).count), static_cast<double>(row(workspace, 2 * i)[c]),
            static_cast<double>(row(workspace, 2 * i + 1)[c]));
      }
    };
    each_part([&](double n, double part_mean, double) { sum += n * part_mean; });
    const double all = sum / static_cast<double>(pixels_);
    each_part([&](double n, double part_mean, double part_squares) {
      squares += part_squares + n * (part_mean - all) * (part_mean - all);
    });
    mean[c] = static_cast<float>(all);
    variance[c] = static_cast<float>(squares / static_cast<double>(pixels_));
  }
}

}  // namespace sepconv
