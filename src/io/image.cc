#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/check.h"
#include "io/decoders.h"

namespace sepconv::io {

void check_size(std::uint64_t width, std::uint64_t height, const std::string& name) {
  check<FileError>(width > 0 && height > 0, "{}: picture of {} x {} pixels", name, width, height);
  check<FileError>(width * height <= kMaxPixels,
                   "{}: picture of {} x {} pixels, expected at most {} megapixels", name, width,
                   height, kMaxPixels / 1'000'000);
}

Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  constexpr std::uint8_t kPng[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  if (bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) {
    return decode_jpeg(bytes, name);
  }
  if (bytes.size() >= 8 && std::memcmp(bytes.data(), kPng, 8) == 0) return decode_png(bytes, name);
  throw FileError(fmt::format("{}: neither a JPEG nor a PNG picture", name));
}

Image read_image(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  check<FileError>(file.good(), "{}: {}", path, errno ? std::strerror(errno) : "cannot be opened");
  const std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
  check<FileError>(!file.bad() && !bytes.empty(), "{}: cannot be read or is empty", path);
  return decode_image(bytes, path);
}

}  // namespace sepconv::io
