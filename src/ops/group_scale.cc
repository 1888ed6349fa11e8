#include "ops/group_scale.h"

#include <fmt/format.h>

#include <cmath>

#include "base/aligned.h"
#include "base/sizes.h"

namespace sepconv {

GroupScale::GroupScale(const Shape& in, const float* weight, const float* bias, std::int64_t groups,
                       double epsilon)
    : Impl(in, {in[0], 2 * in[1]}, Layout::kNHWC, false),
      weight_(weight, weight + in[1]),
      bias_(bias, bias + in[1]),
      groups_(to_size(groups)),
      epsilon_(epsilon),
      moments_(to_size(in[2] * in[3]), to_size(in[1])) {}

std::size_t GroupScale::workspace_bytes(int) const {
  return moments_.workspace_bytes() + 2 * moments_.row_bytes();
}

void GroupScale::run(const float* x, std::span<const float* const>, float* y, std::byte* workspace,
                     const ThreadPool& pool) const {
  const std::size_t channels = moments_.channels();
  std::byte* const both = workspace + moments_.workspace_bytes();
  float *mean = moments_.row(both, 0), *variance = moments_.row(both, 1);
  for (std::size_t image = 0; image < to_size(input[0]); ++image) {
    moments_.run(x + image * moments_.pixels() * channels, mean, variance, workspace, pool);
    float* const factors = y + image * 2 * channels;
    join_groups(mean, variance, factors, factors + channels);
  }
}

// A group's variance is the mean of its channels', and that of these channels' means.
void GroupScale::join_groups(const float* mean, const float* variance, float* factors,
                             float* addends) const {
  const std::size_t each = moments_.channels() / groups_;
  for (std::size_t first = 0; first < moments_.channels(); first += each) {
    double sum = 0, squares = 0;
    for (std::size_t c = first; c < first + each; ++c) sum += static_cast<double>(mean[c]);
    const double all = sum / static_cast<double>(each);
    for (std::size_t c = first; c < first + each; ++c) {
      const double apart = static_cast<double>(mean[c]) - all;
      squares += static_cast<double>(variance[c]) + apart * apart;
    }
    const double deviation = std::sqrt(squares / static_cast<double>(each) + epsilon_);
    for (std::size_t c = first; c < first + each; ++c) {
      const double factor = static_cast<double>(weight_[c]) / deviation;
      factors[c] = static_cast<float>(factor);
      addends[c] = static_cast<float>(static_cast<double>(bias_[c]) - all * factor);
    }
  }
}

std::string GroupScale::describe() const {
  return fmt::format("factors of {} group{}", groups_, groups_ == 1 ? "" : "s");
}

}  // namespace sepconv
