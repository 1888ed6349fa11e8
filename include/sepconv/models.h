#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sepconv/graph.h"
#include "sepconv/io.h"

namespace sepconv::models {

struct ModelInfo {
  std::string name;    ///< as its source names it
  std::string family;  ///< "MobileNetV2" …
  std::string source;  ///< whose tensor names its weight files have: "timm" or "torchvision"
  io::Preprocessing preprocessing;
  std::int64_t classes = 1000;
};

/// A tensor that a model reads from its weight file.
struct TensorSpec {
  std::string name;
  Shape shape;
};

/// Where a model's tensors come from. A graph built from shapes alone (Tensor::shape_only) can tell
/// its shapes and cannot run.
class Weights {
 public:
  virtual ~Weights() = default;
  virtual Constant get(const std::string& name, const Shape& shape) = 0;
};

/// Tensors of a safetensors file. Integer counters that checkpoints carry beside the batch norms
/// (`num_batches_tracked`) are not missed and not minded.
class FileWeights final : public Weights {
 public:
  explicit FileWeights(const io::SafeTensors& file) : file_(file) {}
  /// Throws FileError, with the nearest name that the file has, if there is no such tensor.
  Constant get(const std::string& name, const Shape& shape) override;
  /// Throws FileError if the file has tensors that nobody asked for, but for names that start with
  /// one of `unused`.
  void finish(const std::vector<std::string>& unused = {}) const;

 private:
  const io::SafeTensors& file_;
  std::vector<std::string> used_;
};

/// Seeded random values in place of trained ones, at scales that keep activations finite: for
/// explain and for timing.
class RandomWeights final : public Weights {
 public:
  Constant get(const std::string& name, const Shape& shape) override;
};

/// Names that build() knows, by family.
const std::vector<ModelInfo>& list();
/// Throws ArgumentError with the nearest names for a name that is not listed.
const ModelInfo& find(const std::string& name);
/// The network as a graph from an image [N,3,H,W] to logits [N, classes].
Graph build(const std::string& name, Weights& weights);
/// The same from a file, which must hold just the model's tensors. The graph reads float32 ones
/// where they lie in the mapped file: it must not be written to until networks were made of the
/// graph (SafeTensors::check_unchanged); it may be removed or replaced.
Graph build(const std::string& name, const io::SafeTensors& file);
/// The tensors that the model reads, in its source's order.
std::vector<TensorSpec> tensors(const std::string& name);
struct Costs {
  double parameters;  ///< that training changes
  double macs;        ///< multiply-adds for one image of the model's own size
};
Costs costs(const std::string& name);
/// The model's preprocessing, or what the file's metadata says instead: keys "mean", "std" (three
/// numbers each, separated by commas, of values from 0 to 1), "interpolation" and "crop".
io::Preprocessing preprocessing(const ModelInfo& model, const io::SafeTensors& file);

/// A network ready to be built for an input's shape.
struct Loaded {
  ModelInfo info;  ///< with what its files say of preprocessing
  Shape input;     ///< its own, for one image
  std::function<Graph(const Shape& input)> graph;
};

/// The file's name ends with ".onnx".
bool is_onnx(const std::string& name);
/// A network by its name and weight file (seeded random values where that is ""), or from an ONNX
/// file, which has its own weights; pictures are then prepared as for ImageNet networks of its
/// input's size. `outputs`: of an ONNX file, as OnnxModel takes them.
Loaded load(const std::string& name, const std::string& weights = "",
            const std::vector<std::string>& outputs = {});

}  // namespace sepconv::models
