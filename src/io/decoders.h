#pragma once

#include <span>
#include <string>

#include "sepconv/io.h"

namespace sepconv::io {

/// What PIL warns about as a possible decompression bomb.
inline constexpr std::uint64_t kMaxPixels = 89'478'485;

/// Throws FileError for an empty or a too large picture.
void check_size(std::uint64_t width, std::uint64_t height, const std::string& name);

Image decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& name);
Image decode_png(std::span<const std::uint8_t> bytes, const std::string& name);

/// The EXIF orientation (1 to 8; EXIF 2.3, §4.6.4) in an APP1 segment's payload; 1 if it has none.
int exif_orientation(std::span<const std::uint8_t> app1);

/// The picture as it is meant to be seen.
Image oriented(Image image, int orientation);

}  // namespace sepconv::io
