#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sepconv/models.h"

namespace sepconv::models {

/// A network that can be built by name.
struct Model {
  ModelInfo info;
  std::function<Graph(Weights&)> build;
  std::vector<std::string> unused;  ///< prefixes of tensors that files may have for training
};

// One per family; the registry lists them.
std::vector<Model> mobilenet_models();
std::vector<Model> efficientnet_models();
std::vector<Model> mixnet_models();
std::vector<Model> convnext_models();
std::vector<Model> inception_models();
std::vector<Model> resnet_models();
std::vector<Model> vit_models();

}  // namespace sepconv::models
