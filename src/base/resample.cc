#include "base/resample.h"

#include <algorithm>
#include <cmath>

namespace sepconv {

namespace {

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

// Keys, "Cubic convolution interpolation", 1981.
double cubic(double x, double a = -0.5) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double source_position(std::int64_t i, std::int64_t in, std::int64_t out, double scale,
                       Resampling::Coordinates coordinates) {
  const auto position = static_cast<double>(i), inputs = static_cast<double>(in);
  const double halves = (position + 0.5) / scale - 0.5;
  switch (coordinates) {
    case Resampling::Coordinates::kAsymmetric:
      return position / scale;
    case Resampling::Coordinates::kAlignCorners:
      return out > 1 ? position * (inputs - 1) / (inputs * scale - 1) : 0.0;
    case Resampling::Coordinates::kSymmetric:
      return inputs / 2 * (1 - static_cast<double>(out) / (inputs * scale)) + halves;
    case Resampling::Coordinates::kPytorchHalfPixel:
      return out > 1 ? halves : 0.0;
    default:
      return halves;
  }
}

double round_to(double x, Resampling::Nearest how) {
  switch (how) {
    case Resampling::Nearest::kFloor:
      return std::floor(x);
    case Resampling::Nearest::kCeil:
      return std::ceil(x);
    case Resampling::Nearest::kRoundPreferCeil:
      return std::floor(x + 0.5);
    default:
      return std::ceil(x - 0.5);
  }
}

// Weights of inputs [first, first + weights.size()), some of which may not exist, as weights of
// those that do.
ResampleTaps inside(std::int64_t first, const std::vector<double>& weights, std::int64_t in,
                    bool exclude) {
  const auto count = static_cast<std::int64_t>(weights.size());
  const auto clamped = [in](std::int64_t i) { return std::clamp<std::int64_t>(i, 0, in - 1); };
  ResampleTaps taps{clamped(first), {}};
  taps.weights.resize(static_cast<std::size_t>(clamped(first + count - 1) - taps.first + 1), 0.0);
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double w = weights[static_cast<std::size_t>(i)];
    if (exclude && clamped(first + i) != first + i) continue;
    taps.weights[static_cast<std::size_t>(clamped(first + i) - taps.first)] += w;
    sum += w;
  }
  for (double& w : taps.weights) w = exclude && sum != 0 ? w / sum : w;
  // What has no weight is not read: it may not be a number.
  while (taps.weights.size() > 1 && taps.weights.back() == 0) taps.weights.pop_back();
  while (taps.weights.size() > 1 && taps.weights.front() == 0) {
    taps.weights.erase(taps.weights.begin());
    ++taps.first;
  }
  return taps;
}

}  // namespace

std::vector<ResampleTaps> interpolation_taps(std::int64_t in, std::int64_t out, double scale,
                                             const Resampling& how) {
  std::vector<ResampleTaps> taps;
  for (std::int64_t i = 0; i < out; ++i) {
    const double x = source_position(i, in, out, scale, how.coordinates);
    if (how.mode == Resampling::Mode::kNearest) {
      const double nearest = std::clamp(round_to(x, how.nearest), 0.0, static_cast<double>(in - 1));
      taps.push_back({static_cast<std::int64_t>(nearest), {1.0}});
      continue;
    }
    const double base = std::floor(x), part = x - base;
    const bool linear = how.mode == Resampling::Mode::kLinear;
    std::vector<double> weights;
    for (int t = linear ? 0 : -1; t <= (linear ? 1 : 2); ++t) {
      const double distance = part - t;
      weights.push_back(linear ? triangle(distance) : cubic(distance, how.cubic_coefficient));
    }
    const auto first = static_cast<std::int64_t>(base) - (linear ? 0 : 1);
    taps.push_back(inside(first, weights, in, how.exclude_outside));
  }
  return taps;
}

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
