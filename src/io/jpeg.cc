#include <csetjmp>
#include <cstdio>
// jpeglib.h needs stdio first.
#include <jpeglib.h>

#include <memory>

#include "base/check.h"
#include "io/decoders.h"

namespace sepconv::io {

namespace {

// libjpeg reports a fatal error by a call that must not return.
struct ErrorManager {
  jpeg_error_mgr base;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void fail(j_common_ptr info) {
  auto* errors = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->jump, 1);
}

// A warning is how libjpeg reports truncated or corrupt data that it would paint grey.
void warn(j_common_ptr info, int level) {
  if (level < 0) fail(info);
}

int orientation_of(const jpeg_decompress_struct& info) {
  for (const jpeg_marker_struct* m = info.marker_list; m; m = m->next) {
    if (m->marker == JPEG_APP0 + 1) {
      const int orientation = exif_orientation({m->data, m->data_length});
      if (orientation != 1) return orientation;
    }
  }
  return 1;
}

// CMYK as Adobe writes it: inverted.
void cmyk_to_rgb(const std::uint8_t* from, std::uint8_t* to, std::size_t pixels, bool inverted) {
  for (std::size_t i = 0; i < pixels; ++i, from += 4, to += 3) {
    for (int c = 0; c < 3; ++c) {
      const int ink = inverted ? from[c] : 255 - from[c];
      const int black = inverted ? from[3] : 255 - from[3];
      to[c] = static_cast<std::uint8_t>((ink * black + 127) / 255);
    }
  }
}

struct Decoder {
  jpeg_decompress_struct info{};
  ErrorManager errors{};
  Image image;
  std::vector<std::uint8_t> line;
  int orientation = 1;
  bool too_large = false;

  ~Decoder() { jpeg_destroy_decompress(&info); }

  // No object with a destructor may be created between here and libjpeg's longjmp.
  bool run(std::span<const std::uint8_t> bytes) {
    info.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = fail;
    errors.base.emit_message = warn;
    if (setjmp(errors.jump)) return false;
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&info, TRUE);
    if (std::uint64_t{info.image_width} * info.image_height > kMaxPixels) {
      too_large = true;
      return false;
    }
    const bool four = info.num_components == 4;
    info.out_color_space = four ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&info);
    image.width = info.output_width;
    image.height = info.output_height;
    const std::size_t pixels = info.output_width;
    image.rgb.resize(3 * pixels * info.output_height);
    if (four) line.resize(4 * pixels);
    while (info.output_scanline < info.output_height) {
      std::uint8_t* row = image.rgb.data() + 3 * pixels * info.output_scanline;
      JSAMPROW target = four ? line.data() : row;
      jpeg_read_scanlines(&info, &target, 1);
      if (four) cmyk_to_rgb(line.data(), row, pixels, info.saw_Adobe_marker != 0);
    }
    orientation = orientation_of(info);
    jpeg_finish_decompress(&info);
    return true;
  }
};

}  // namespace

Image decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& name) {
  const auto decoder = std::make_unique<Decoder>();
  const bool done = decoder->run(bytes);
  if (decoder->too_large) check_size(decoder->info.image_width, decoder->info.image_height, name);
  check<FileError>(done, "{}: {}", name, decoder->errors.message);
  return oriented(std::move(decoder->image), decoder->orientation);
}

}  // namespace sepconv::io
