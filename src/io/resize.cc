// Antialiased resampling with PIL's arithmetic (Pillow, src/libImaging/Resample.c): each output
// pixel is a weighted sum over the input pixels under a filter stretched by the reduction factor;
// weights in 22-bit fixed point; horizontal pass first, 8-bit values in between.

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "sepconv/io.h"

namespace sepconv::io {

namespace {

constexpr int kPrecision = 32 - 8 - 2;

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

// Keys, "Cubic convolution interpolation", 1981, with a = −1/2.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/// The input pixels of one output pixel: [first, first + weights.size()).
struct Taps {
  std::int64_t first;
  std::vector<std::int32_t> weights;
};

std::vector<Taps> make_taps(std::int64_t in, std::int64_t out, Interpolation filter) {
  const bool bilinear = filter == Interpolation::kBilinear;
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(scale, 1.0);
  const double support = (bilinear ? 1.0 : 2.0) * stretch;
  std::vector<Taps> taps;
  for (std::int64_t i = 0; i < out; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(center - support + 0.5));
    const auto last = std::min(in, static_cast<std::int64_t>(center + support + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (std::int64_t j = first; j < last; ++j) {
      const double x = (static_cast<double>(j) - center + 0.5) / stretch;
      weights.push_back(bilinear ? triangle(x) : cubic(x));
      sum += weights.back();
    }
    Taps t{first, {}};
    for (double w : weights) {
      const double fixed = (sum != 0 ? w / sum : w) * (1 << kPrecision);
      t.weights.push_back(static_cast<std::int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
    taps.push_back(std::move(t));
  }
  return taps;
}

std::uint8_t weighted(const std::uint8_t* p, std::int64_t step, const Taps& taps) {
  std::int32_t sum = 1 << (kPrecision - 1);
  for (std::int32_t w : taps.weights) {
    sum += w * *p;
    p += step;
  }
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecision, 0, 255));
}

Image resample(const Image& image, std::int64_t width, std::int64_t height,
               const std::vector<Taps>& taps, bool horizontal) {
  Image out{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(3 * width * height))};
  std::uint8_t* to = out.rgb.data();
  const std::int64_t step = horizontal ? 3 : 3 * image.width;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const Taps& t = taps[static_cast<std::size_t>(horizontal ? x : y)];
      const std::int64_t pixel = horizontal ? y * image.width + t.first : t.first * image.width + x;
      for (std::int64_t c = 0; c < 3; ++c) {
        *to++ = weighted(image.rgb.data() + 3 * pixel + c, step, t);
      }
    }
  }
  return out;
}

}  // namespace

Image resize(const Image& image, std::int64_t width, std::int64_t height, Interpolation filter) {
  check(width > 0 && height > 0 && width < (1 << 20) && height < (1 << 20),
        "resize: to {} x {} pixels, expected 1 to 2^20 each", width, height);
  check(image.width > 0 && image.height > 0, "resize: the picture is empty");
  Image result = image;
  if (width != image.width) {
    result = resample(result, width, image.height, make_taps(image.width, width, filter), true);
  }
  if (height != image.height) {
    result = resample(result, width, height, make_taps(image.height, height, filter), false);
  }
  return result;
}

Tensor preprocess(const Image& image, const Preprocessing& how) {
  const auto target =
      static_cast<std::int64_t>(std::floor(static_cast<double>(how.size) / how.crop));
  const bool wide = image.width >= image.height;
  const std::int64_t shorter = wide ? image.height : image.width;
  const std::int64_t longer = wide ? image.width : image.height;
  check(shorter > 0, "preprocess: the picture is empty");
  const std::int64_t other = target * longer / shorter;
  const Image small =
      resize(image, wide ? other : target, wide ? target : other, how.interpolation);
  // Half to even, as Python's round() in torchvision's CenterCrop.
  const auto left = std::llrint(static_cast<double>(small.width - how.size) / 2);
  const auto top = std::llrint(static_cast<double>(small.height - how.size) / 2);
  Tensor x({1, 3, how.size, how.size}, Layout::kNHWC);
  float* to = x.data();
  for (std::int64_t row = 0; row < how.size; ++row) {
    const std::uint8_t* from = small.rgb.data() + 3 * ((top + row) * small.width + left);
    for (std::int64_t i = 0; i < 3 * how.size; ++i) {
      const std::size_t c = static_cast<std::size_t>(i % 3);
      *to++ = (static_cast<float>(from[i]) / 255.0F - how.mean[c]) / how.std[c];
    }
  }
  return x;
}

}  // namespace sepconv::io
