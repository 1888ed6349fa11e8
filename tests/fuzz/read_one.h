#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "io/onnx_file.h"
#include "sepconv/io.h"
#include "sepconv/onnx.h"

namespace sepconv::fuzz {

/// Reads a file as ONNX and builds its graph for its own input shape, if that is no giant's.
/// Returns whether it is a whole one; what it should throw, it may.
inline bool read_onnx_file(const std::string& path) {
  try {
    const OnnxModel model(path);
    const Shape input = model.input_shape();
    return input.elements() <= (1 << 20) && !model.graph(input).nodes.empty();
  } catch (const Error&) {
    return false;
  }
}

/// Reads a file as safetensors, and every tensor of it that float32 is made of.
inline bool read_safetensors_file(const std::string& path) {
  try {
    const io::SafeTensors file(path);
    for (const auto& [name, entry] : file.entries()) {
      const bool integer = entry.dtype == DType::kInt64 || entry.dtype == DType::kInt32 ||
                           entry.dtype == DType::kUInt8;
      if (integer || entry.shape.size() > static_cast<std::size_t>(Shape::kMaxRank)) continue;
      file.load(name, Shape(entry.shape.data(), static_cast<int>(entry.shape.size())));
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sepconv::fuzz
