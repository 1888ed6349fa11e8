#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace sepconv::io {

/// A constant of a model: floating-point elements (widened or narrowed to float32) or whole numbers
/// (booleans as 0 and 1).
struct OnnxTensor {
  std::vector<std::int64_t> dims;
  bool integer = false;
  std::vector<float> floats;
  std::vector<std::int64_t> integers;

  std::size_t size() const { return integer ? integers.size() : floats.size(); }
};

using OnnxConstant = std::shared_ptr<const OnnxTensor>;

struct OnnxAttribute {
  float number = 0;
  std::int64_t integer = 0;
  std::string text;
  std::vector<std::int64_t> integers;
  std::vector<float> numbers;
  OnnxConstant tensor;
};

/// Names of values that are not given are empty.
struct OnnxNode {
  std::string type, name;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, OnnxAttribute> attributes;
};

/// What an ONNX file says, without protobuf around it.
struct OnnxFile {
  static constexpr std::int64_t kOldestOpset = 11, kNewestOpset = 25;

  std::string path;
  std::int64_t opset = 0;
  std::vector<OnnxNode> nodes;
  std::map<std::string, OnnxConstant> constants;
  std::string input;                     ///< the only one that is no constant
  std::vector<std::int64_t> input_dims;  ///< −1 where the file leaves a size open
  std::vector<std::string> outputs;
};

/// Reads a model with one input (IR of github.com/onnx/onnx, docs/IR.md), external
/// data included, which must lie beside the file or below. Throws FileError for anything that is
/// not such a file: truncated, of another opset, tensors whose data do not fit their shapes, data
/// outside the file's folder.
OnnxFile read_onnx(const std::string& path);

}  // namespace sepconv::io
