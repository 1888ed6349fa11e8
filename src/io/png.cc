#include <png.h>

#include <csetjmp>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "io/decoders.h"

namespace sepconv::io {

namespace {

struct Decoder {
  std::span<const std::uint8_t> bytes;
  std::size_t next = 0;
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string message;
  Image image;
  std::vector<png_bytep> rows;
  bool too_large = false;

  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }

  static void read(png_structp png, png_bytep to, std::size_t count) {
    auto* self = static_cast<Decoder*>(png_get_io_ptr(png));
    if (count > self->bytes.size() - self->next) png_error(png, "file is truncated");
    std::memcpy(to, self->bytes.data() + self->next, count);
    self->next += count;
  }
  static void fail(png_structp png, png_const_charp why) {
    static_cast<Decoder*>(png_get_error_ptr(png))->message = why;
    png_longjmp(png, 1);
  }
  static void ignore(png_structp, png_const_charp) {}

  bool run() {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, ignore);
    info = png ? png_create_info_struct(png) : nullptr;
    if (!info) return false;
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_read_fn(png, this, read);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
    png_read_info(png, info);
    const png_uint_32 width = png_get_image_width(png, info);
    const png_uint_32 height = png_get_image_height(png, info);
    image.width = width;
    image.height = height;
    if (std::uint64_t{width} * height > kMaxPixels) {
      too_large = true;
      return false;
    }
    // Everything to 8-bit RGB: palettes and low depths widened, 16 bits cut, alpha dropped.
    png_set_strip_16(png);
    png_set_expand(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != 3 * std::size_t{width}) png_error(png, "unexpected format");
    image.rgb.resize(3 * std::size_t{width} * height);
    rows.resize(height);
    for (std::size_t y = 0; y < height; ++y) rows[y] = image.rgb.data() + 3 * width * y;
    png_read_image(png, rows.data());
    png_read_end(png, nullptr);
    return true;
  }
};

}  // namespace

Image decode_png(std::span<const std::uint8_t> bytes, const std::string& name) {
  const auto decoder = std::make_unique<Decoder>();
  decoder->bytes = bytes;
  const bool done = decoder->run();
  if (decoder->too_large) {
    check_size(static_cast<std::uint64_t>(decoder->image.width),
               static_cast<std::uint64_t>(decoder->image.height), name);
  }
  check<FileError>(done, "{}: {}", name, decoder->message);
  return std::move(decoder->image);
}

}  // namespace sepconv::io
