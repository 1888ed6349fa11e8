#include "models/inverted_residual.h"

namespace sepconv::models {

namespace {

using enum BlockKind;

// Tan and Le, "EfficientNet", 2019, table 1; the Lite networks have ReLU6 for SiLU, no
// squeeze-excite, and ends that do not scale (tensorflow/tpu, efficientnet/lite).
//                                                       n  k  s  t  c
constexpr Stage kEfficientNetLite[] = {{kSeparable, 1, 3, 1, 1, 16},          // 1/2
                                       {kInvertedResidual, 2, 3, 2, 6, 24},   // 1/4
                                       {kInvertedResidual, 2, 5, 2, 6, 40},   // 1/8
                                       {kInvertedResidual, 3, 3, 2, 6, 80},   // 1/16
                                       {kInvertedResidual, 3, 5, 1, 6, 112},  // 1/16
                                       {kInvertedResidual, 4, 5, 2, 6, 192},  // 1/32
                                       {kInvertedResidual, 1, 3, 1, 6, 320}};

struct Variant {
  const char* name;
  double width, depth;
  std::int64_t size;
  double crop;
};

constexpr Variant kLiteVariants[] = {{"efficientnet_lite0", 1.0, 1.0, 224, 0.875},
                                     {"efficientnet_lite1", 1.0, 1.1, 240, 0.882},
                                     {"efficientnet_lite2", 1.1, 1.2, 260, 0.890},
                                     {"efficientnet_lite3", 1.2, 1.4, 300, 0.904},
                                     {"efficientnet_lite4", 1.4, 1.8, 380, 0.922}};

}  // namespace

std::vector<Model> efficientnet_models() {
  std::vector<Model> models;
  for (const Variant& v : kLiteVariants) {
    io::Preprocessing p;
    p.size = v.size;
    p.crop = v.crop;
    const Recipe recipe{kEfficientNetLite,        32,          1280, ActivationKind::kRelu6,
                        {v.width, v.depth, true}, &kTimmNaming};
    models.push_back(recipe_model({v.name, "EfficientNet-Lite", "timm", p}, recipe));
  }
  return models;
}

}  // namespace sepconv::models
