// Antialiased resampling with PIL's arithmetic (Pillow, src/libImaging/Resample.c): each output
// pixel is a weighted sum over the input pixels under a filter stretched by the reduction factor;
// weights in 22-bit fixed point; horizontal pass first, 8-bit values in between.

#include <algorithm>

#include "base/check.h"
#include "base/resample.h"
#include "sepconv/io.h"

namespace sepconv::io {

namespace {

constexpr int kPrecision = 32 - 8 - 2;

/// The input pixels of one output pixel: [first, first + weights.size()).
struct Taps {
  std::int64_t first;
  std::vector<std::int32_t> weights;
};

std::vector<Taps> make_taps(std::int64_t in, std::int64_t out, Interpolation interpolation) {
  const bool bilinear = interpolation == Interpolation::kBilinear;
  std::vector<Taps> taps;
  for (const ResampleTaps& exact :
       resample_taps(in, out, bilinear ? ResampleFilter::kTriangle : ResampleFilter::kCubic)) {
    Taps t{exact.first, {}};
    for (double w : exact.weights) {
      const double fixed = w * (1 << kPrecision);
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
