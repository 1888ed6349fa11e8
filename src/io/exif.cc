#include <algorithm>
#include <cstring>

#include "io/decoders.h"

namespace sepconv::io {

namespace {

constexpr std::uint16_t kOrientationTag = 0x0112;

// A TIFF structure in either byte order; reads beyond its end give 0.
struct Tiff {
  std::span<const std::uint8_t> bytes;
  bool little;

  std::uint32_t read(std::size_t at, std::size_t size) const {
    if (at + size > bytes.size()) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t shift = 8 * (little ? i : size - 1 - i);
      value |= static_cast<std::uint32_t>(bytes[at + i]) << shift;
    }
    return value;
  }
};

}  // namespace

int exif_orientation(std::span<const std::uint8_t> app1) {
  constexpr char kExif[] = "Exif\0";
  if (app1.size() < 14 || std::memcmp(app1.data(), kExif, 6) != 0) return 1;
  const auto bytes = app1.subspan(6);
  const Tiff tiff{bytes, bytes[0] == 'I'};
  const std::size_t directory = tiff.read(4, 4);
  const std::size_t count = tiff.read(directory, 2);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (tiff.read(entry, 2) != kOrientationTag) continue;
    const std::uint32_t value = tiff.read(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image oriented(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool transposes = orientation >= 5;
  const bool flips_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flips_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out;
  out.width = transposes ? image.height : image.width;
  out.height = transposes ? image.width : image.height;
  out.rgb.resize(image.rgb.size());
  for (std::int64_t y = 0; y < out.height; ++y) {
    for (std::int64_t x = 0; x < out.width; ++x) {
      std::int64_t sx = transposes ? y : x, sy = transposes ? x : y;
      if (flips_x) sx = image.width - 1 - sx;
      if (flips_y) sy = image.height - 1 - sy;
      std::copy_n(image.rgb.begin() + 3 * (sy * image.width + sx), 3,
                  out.rgb.begin() + 3 * (y * out.width + x));
    }
  }
  return out;
}

}  // namespace sepconv::io
