#include <charconv>

#include "base/check.h"
#include "base/nearest.h"
#include "models/family.h"

namespace sepconv::models {

namespace {

const std::vector<Model>& all() {
  static const std::vector<Model> models = [] {
    std::vector<Model> list;
    for (auto family : {mobilenet_models, efficientnet_models, mixnet_models, convnext_models,
                        inception_models, resnet_models, vit_models}) {
      for (Model& model : family()) list.push_back(std::move(model));
    }
    return list;
  }();
  return models;
}

const Model& lookup(const std::string& name) {
  std::vector<std::string> names;
  for (const Model& model : all()) {
    if (model.info.name == name) return model;
    names.push_back(model.info.name);
  }
  const auto near = nearest_names(name, names, 3);
  throw ArgumentError(fmt::format("model: got '{}', the nearest known names are {}, {} and {}",
                                  name, near[0], near[1], near[2]));
}

class RecordingWeights final : public Weights {
 public:
  Constant get(const std::string& name, const Shape& shape) override {
    specs.push_back({name, shape});
    return std::make_shared<Tensor>(Tensor::shape_only(shape));
  }
  std::vector<TensorSpec> specs;
};

std::array<float, 3> three_numbers(const io::SafeTensors& file, const std::string& key,
                                   std::array<float, 3> otherwise) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return otherwise;
  const std::string& text = found->second;
  std::array<float, 3> values{};
  const char* at = text.data();
  const char* end = at + text.size();
  for (std::size_t i = 0; i < 3; ++i) {
    const auto [next, error] = std::from_chars(at, end, values[i]);
    const bool separated = i == 2 ? next == end : next != end && *next == ',';
    check<FileError>(error == std::errc() && separated,
                     "{}: metadata '{}' is '{}', expected three numbers separated by commas",
                     file.path(), key, text);
    at = next + 1;
  }
  return values;
}

}  // namespace

const std::vector<ModelInfo>& list() {
  static const std::vector<ModelInfo> infos = [] {
    std::vector<ModelInfo> list;
    for (const Model& model : all()) list.push_back(model.info);
    return list;
  }();
  return infos;
}

const ModelInfo& find(const std::string& name) { return lookup(name).info; }

Graph build(const std::string& name, Weights& weights) { return lookup(name).build(weights); }

Graph build(const std::string& name, const io::SafeTensors& file) {
  FileWeights weights(file);
  Graph graph = build(name, weights);
  weights.finish(lookup(name).unused);
  return graph;
}

std::vector<TensorSpec> tensors(const std::string& name) {
  RecordingWeights weights;
  build(name, weights);
  return weights.specs;
}

Costs costs(const std::string& name) {
  RecordingWeights weights;
  const Graph graph = build(name, weights);
  Costs costs{0, 0};
  for (const TensorSpec& t : weights.specs) {
    const bool statistic = t.name.ends_with("running_mean") || t.name.ends_with("running_var");
    if (!statistic) costs.parameters += static_cast<double>(t.shape.elements());
  }
  const std::int64_t size = find(name).preprocessing.size;
  costs.macs = count_macs(graph, infer_shapes(graph, {1, 3, size, size}));
  return costs;
}

io::Preprocessing preprocessing(const ModelInfo& model, const io::SafeTensors& file) {
  io::Preprocessing p = model.preprocessing;
  p.mean = three_numbers(file, "mean", p.mean);
  p.std = three_numbers(file, "std", p.std);
  const auto& metadata = file.metadata();
  if (const auto found = metadata.find("interpolation"); found != metadata.end()) {
    check<FileError>(found->second == "bilinear" || found->second == "bicubic",
                     "{}: metadata 'interpolation' is '{}', expected bilinear or bicubic",
                     file.path(), found->second);
    p.interpolation =
        found->second == "bilinear" ? io::Interpolation::kBilinear : io::Interpolation::kBicubic;
  }
  if (const auto found = metadata.find("crop"); found != metadata.end()) {
    const char* end = found->second.data() + found->second.size();
    const auto [next, error] = std::from_chars(found->second.data(), end, p.crop);
    check<FileError>(error == std::errc() && next == end && p.crop > 0.1 && p.crop <= 1,
                     "{}: metadata 'crop' is '{}', expected a number from 0.1 to 1", file.path(),
                     found->second);
  }
  return p;
}

}  // namespace sepconv::models
