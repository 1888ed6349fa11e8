#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sepconv/graph.h"

namespace sepconv {

namespace io {
struct OnnxFile;
}

/// A network from an ONNX file (github.com/onnx/onnx): operator sets 11 to 25, float32, one input
/// [N, C, H, W]. Networks made of convolutions and what stands around them are
/// understood as exporters write them: activations, layer norms and attention taken apart into
/// arithmetic become single nodes again.
class OnnxModel {
 public:
  /// `outputs`: values of the file, by name, that the network ends with instead of the file's own
  /// outputs. What none of them needs, say a detector's last steps, may be of any kind. Throws
  /// FileError for anything but a whole ONNX file, ArgumentError for a value that it does not have.
  explicit OnnxModel(const std::string& path, const std::vector<std::string>& outputs = {});

  const std::string& path() const;
  /// The input's shape by the file; where it leaves a size open, 1 image, 3 channels, 224 × 224.
  Shape input_shape() const;
  /// The network for an input of this shape. Throws FileError where the file says another size, and
  /// with a list of everything that the outputs need, by operator and node, that is not supported.
  Graph graph(const Shape& input) const;

 private:
  std::shared_ptr<const io::OnnxFile> file_;
};

}  // namespace sepconv
