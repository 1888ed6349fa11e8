#include "base/check.h"
#include "sepconv/models.h"
#include "sepconv/onnx.h"

namespace sepconv::models {

namespace {

Loaded load_onnx(const std::string& path, const std::vector<std::string>& outputs) {
  const OnnxModel model(path, outputs);
  Loaded loaded;
  loaded.info.name = path;
  loaded.info.family = "ONNX";
  loaded.info.source = "the file";
  loaded.info.preprocessing.size = model.input_shape()[2];
  loaded.input = model.input_shape();
  loaded.graph = [model](const Shape& input) { return model.graph(input); };
  return loaded;
}

}  // namespace

bool is_onnx(const std::string& name) { return name.ends_with(".onnx"); }

Loaded load(const std::string& name, const std::string& weights,
            const std::vector<std::string>& outputs) {
  if (is_onnx(name)) {
    check(weights.empty(), "weights: got {}, but {} has its own", weights, name);
    return load_onnx(name, outputs);
  }
  check(outputs.empty(), "outputs: got {} name(s), but {} is no ONNX file", outputs.size(), name);
  Loaded loaded{find(name), {}, {}};
  Graph graph;
  std::shared_ptr<const io::SafeTensors> file;
  if (weights.empty()) {
    RandomWeights random;
    graph = build(name, random);
  } else {
    file = std::make_shared<io::SafeTensors>(weights);
    loaded.info.preprocessing = preprocessing(loaded.info, *file);
    graph = build(name, *file);
  }
  const std::int64_t size = loaded.info.preprocessing.size;
  loaded.input = {1, 3, size, size};
  loaded.graph = [graph, file](const Shape&) {
    if (file) file->check_unchanged();
    return graph;
  };
  return loaded;
}

}  // namespace sepconv::models
