#include <fmt/format.h>

#include "models/inverted_residual.h"

namespace sepconv::models {

namespace {

using enum BlockKind;

// Howard et al., "MobileNets", 2017, table 1.          n  k  s  t  c
constexpr Stage kMobileNetV1[] = {{kSeparableActivated, 1, 3, 1, 1, 64},     // 112
                                  {kSeparableActivated, 2, 3, 2, 1, 128},    // 56
                                  {kSeparableActivated, 2, 3, 2, 1, 256},    // 28
                                  {kSeparableActivated, 6, 3, 2, 1, 512},    // 14
                                  {kSeparableActivated, 2, 3, 2, 1, 1024}};  // 7

// Sandler et al., "MobileNetV2", 2018, table 2.      n  k  s  t  c
constexpr Stage kMobileNetV2[] = {{kSeparable, 1, 3, 1, 1, 16},          // 112
                                  {kInvertedResidual, 2, 3, 2, 6, 24},   // 56
                                  {kInvertedResidual, 3, 3, 2, 6, 32},   // 28
                                  {kInvertedResidual, 4, 3, 2, 6, 64},   // 14
                                  {kInvertedResidual, 3, 3, 1, 6, 96},   // 14
                                  {kInvertedResidual, 3, 3, 2, 6, 160},  // 7
                                  {kInvertedResidual, 1, 3, 1, 6, 320}};

struct Variant {
  const char* name;
  Scaling scaling;
};

constexpr Variant kV1Variants[] = {{"mobilenetv1_100", {1.0}}, {"mobilenetv1_125", {1.25}}};

constexpr Variant kV2Variants[] = {{"mobilenetv2_035", {0.35}},
                                   {"mobilenetv2_050", {0.5}},
                                   {"mobilenetv2_075", {0.75}},
                                   {"mobilenetv2_100", {1.0}},
                                   {"mobilenetv2_110d", {1.1, 1.2, true}},
                                   {"mobilenetv2_120d", {1.2, 1.4, true}},
                                   {"mobilenetv2_140", {1.4}}};

// torchvision counts blocks through and numbers the layers inside one.
BlockNames torchvision_block(const BlockPlace& p) {
  const std::string b = fmt::format("features.{}.conv.", p.overall + 1);
  if (!p.expands) return {"", "", b + "0.0", b + "0.1", b + "1", b + "2"};
  return {b + "0.0", b + "0.1", b + "1.0", b + "1.1", b + "2", b + "3"};
}

const Naming kTorchvisionNaming = {"features.0.0",  "features.0.1", "features.18.0",
                                   "features.18.1", "classifier.1", torchvision_block};

}  // namespace

std::vector<Model> mobilenet_models() {
  const Activation relu6 = ActivationKind::kRelu6;
  std::vector<Model> models;
  io::Preprocessing half;
  half.mean = half.std = {0.5F, 0.5F, 0.5F};
  for (const Variant& v : kV1Variants) {
    io::Preprocessing p = half;
    if (v.scaling.width > 1) p.crop = 0.9;
    models.push_back(recipe_model({v.name, "MobileNetV1", "timm", p},
                                  {kMobileNetV1, 32, 0, relu6, v.scaling, &kTimmNaming}));
  }
  for (const Variant& v : kV2Variants) {
    models.push_back(recipe_model({v.name, "MobileNetV2", "timm", {}},
                                  {kMobileNetV2, 32, 1280, relu6, v.scaling, &kTimmNaming}));
  }
  io::Preprocessing bilinear;
  bilinear.interpolation = io::Interpolation::kBilinear;
  models.push_back(recipe_model({"mobilenet_v2", "MobileNetV2", "torchvision", bilinear},
                                {kMobileNetV2, 32, 1280, relu6, {}, &kTorchvisionNaming}));
  return models;
}

}  // namespace sepconv::models
