#include "base/resample.h"

#include <algorithm>
#include <cmath>

namespace sepconv {

namespace {

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

// Keys, "Cubic convolution interpolation", 1981, with a = −1/2.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

}  // namespace

std::vector<ResampleTaps> resample_taps(std::int64_t in, std::int64_t out, ResampleFilter filter) {
  const bool linear = filter == ResampleFilter::kTriangle;
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(scale, 1.0);
  const double support = (linear ? 1.0 : 2.0) * stretch;
  std::vector<ResampleTaps> taps;
  for (std::int64_t i = 0; i < out; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(center - support + 0.5));
    const auto last = std::min(in, static_cast<std::int64_t>(center + support + 0.5));
    ResampleTaps t{first, {}};
    double sum = 0;
    for (std::int64_t j = first; j < last; ++j) {
      const double x = (static_cast<double>(j) - center + 0.5) / stretch;
      t.weights.push_back(linear ? triangle(x) : cubic(x));
      sum += t.weights.back();
    }
    for (double& w : t.weights) w = sum != 0 ? w / sum : w;
    taps.push_back(std::move(t));
  }
  return taps;
}

}  // namespace sepconv
