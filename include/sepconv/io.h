#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sepconv/tensor.h"

namespace sepconv::io {

/// An 8-bit RGB picture, row by row.
struct Image {
  std::int64_t width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  ///< 3 · width · height values
};

/// Reads a JPEG or PNG file: grey, palette, RGBA (alpha is dropped), 16-bit (the high byte), CMYK
/// and EXIF-rotated ones too. Throws FileError for anything else, and for pictures of over 89
/// megapixels.
Image read_image(const std::string& path);
/// The same from memory; `name` stands for the file in errors.
Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name);

enum class Interpolation { kBilinear, kBicubic };

/// Resampling with antialiasing as PIL's Image.resize does it: the filter is stretched to the
/// reduction, columns then rows, 8 bits in between.
Image resize(const Image& image, std::int64_t width, std::int64_t height, Interpolation filter);

/// How a network wants its pictures: the shorter side is resized to floor(size / crop), the centre
/// is cut out, and (value / 255 − mean) / std goes in.
struct Preprocessing {
  std::int64_t size = 224;
  double crop = 0.875;
  Interpolation interpolation = Interpolation::kBicubic;
  std::array<float, 3> mean{0.485F, 0.456F, 0.406F};
  std::array<float, 3> std{0.229F, 0.224F, 0.225F};
};

/// A picture as a network's input: [1, 3, size, size] in NHWC memory.
Tensor preprocess(const Image& image, const Preprocessing& how);

/// Name of one of the 1000 classes of ImageNet (ILSVRC 2012), e.g. "espresso"; index from 0.
/// Throws ArgumentError beyond them.
std::string_view imagenet_label(std::int64_t index);
/// The same for a network of 1,000 classes; of another number, "class 7".
std::string class_label(std::int64_t index, std::int64_t classes);

/// A safetensors file, memory-mapped (format: github.com/huggingface/safetensors).
class SafeTensors {
 public:
  struct Entry {
    DType dtype;
    std::vector<std::int64_t> shape;
    std::span<const std::byte> bytes;
  };

  /// Throws FileError unless the whole file is as the format prescribes: header size, JSON, dtypes,
  /// and tensors that fill the rest without gap or overlap.
  explicit SafeTensors(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// A copy as float32; float16, bfloat16 and float64 are converted. Throws FileError if the tensor
  /// is missing, has another shape or an integer dtype.
  Tensor load(const std::string& name, const Shape& shape) const;
  /// The same without a copy where the file holds float32: the tensor keeps the file mapped. See
  /// check_unchanged().
  std::shared_ptr<const Tensor> share(const std::string& name, const Shape& shape) const;
  /// Throws FileError if the file was written to since it was opened, by its size and time: what is
  /// shared of it may have changed, too. It may be removed or replaced by another.
  void check_unchanged() const;

 private:
  struct Mapping;
  const Entry& entry(const std::string& name, const Shape& shape) const;

  std::string path_;
  std::shared_ptr<const Mapping> mapping_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace sepconv::io
