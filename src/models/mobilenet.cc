#include <fmt/format.h>

#include "models/inverted_residual.h"

namespace sepconv::models {

namespace {

// Howard et al., "MobileNets", 2017, table 1.
constexpr const char* kV1[] = {"dsa_r1_k3_s1_c64",     // 112
                               "dsa_r2_k3_s2_c128",    // 56
                               "dsa_r2_k3_s2_c256",    // 28
                               "dsa_r6_k3_s2_c512",    // 14
                               "dsa_r2_k3_s2_c1024"};  // 7

// Sandler et al., "MobileNetV2", 2018, table 2.
constexpr const char* kV2[] = {"ds_r1_k3_s1_c16",      // 112
                               "ir_r2_k3_s2_e6_c24",   // 56
                               "ir_r3_k3_s2_e6_c32",   // 28
                               "ir_r4_k3_s2_e6_c64",   // 14
                               "ir_r3_k3_s1_e6_c96",   // 14
                               "ir_r3_k3_s2_e6_c160",  // 7
                               "ir_r1_k3_s1_e6_c320"};

// Howard et al., "Searching for MobileNetV3", 2019, tables 1 and 2; the minimal ones without
// squeeze-excite, hard-swish and 5×5 (tensorflow/models, mobilenet v3).
constexpr const char* kV3Large[] = {
    "ds_r1_k3_s1_c16_nre",                                           // 112
    "ir_r1_k3_s2_e4_c24_nre ir_r1_k3_s1_e3_c24_nre",                 // 56
    "ir_r3_k5_s2_e3_c40_se0.25_nre",                                 // 28
    "ir_r1_k3_s2_e6_c80 ir_r1_k3_s1_e2.5_c80 ir_r2_k3_s1_e2.3_c80",  // 14
    "ir_r2_k3_s1_e6_c112_se0.25",                                    // 14
    "ir_r3_k5_s2_e6_c160_se0.25",                                    // 7
    "cn_r1_k1_s1_c960"};
constexpr const char* kV3LargeMinimal[] = {
    "ds_r1_k3_s1_c16",                                               // 112
    "ir_r1_k3_s2_e4_c24 ir_r1_k3_s1_e3_c24",                         // 56
    "ir_r3_k3_s2_e3_c40",                                            // 28
    "ir_r1_k3_s2_e6_c80 ir_r1_k3_s1_e2.5_c80 ir_r2_k3_s1_e2.3_c80",  // 14
    "ir_r2_k3_s1_e6_c112",                                           // 14
    "ir_r3_k3_s2_e6_c160",                                           // 7
    "cn_r1_k1_s1_c960"};
constexpr const char* kV3Small[] = {"ds_r1_k3_s2_c16_se0.25_nre",                           // 56
                                    "ir_r1_k3_s2_e4.5_c24_nre ir_r1_k3_s1_e3.67_c24_nre",   // 28
                                    "ir_r1_k5_s2_e4_c40_se0.25 ir_r2_k5_s1_e6_c40_se0.25",  // 14
                                    "ir_r2_k5_s1_e3_c48_se0.25",                            // 14
                                    "ir_r3_k5_s2_e6_c96_se0.25",                            // 7
                                    "cn_r1_k1_s1_c576"};
constexpr const char* kV3SmallMinimal[] = {"ds_r1_k3_s2_c16",                             // 56
                                           "ir_r1_k3_s2_e4.5_c24 ir_r1_k3_s1_e3.67_c24",  // 28
                                           "ir_r1_k3_s2_e4_c40 ir_r2_k3_s1_e6_c40",       // 14
                                           "ir_r2_k3_s1_e3_c48",                          // 14
                                           "ir_r3_k3_s2_e6_c96",                          // 7
                                           "cn_r1_k1_s1_c576"};

struct V1Variant {
  const char* name;
  double width, crop;
  Head head;
};
constexpr V1Variant kV1Variants[] = {{"mobilenetv1_100", 1.0, 0.875, Head::kNone},
                                     {"mobilenetv1_100h", 1.0, 0.875, Head::kConv},
                                     {"mobilenetv1_125", 1.25, 0.9, Head::kNone}};

struct V2Variant {
  const char* name;
  double width, depth;
};
constexpr V2Variant kV2Variants[] = {{"mobilenetv2_035", 0.35, 1},   {"mobilenetv2_050", 0.5, 1},
                                     {"mobilenetv2_075", 0.75, 1},   {"mobilenetv2_100", 1, 1},
                                     {"mobilenetv2_110d", 1.1, 1.2}, {"mobilenetv2_120d", 1.2, 1.4},
                                     {"mobilenetv2_140", 1.4, 1}};

struct V3Variant {
  const char* name;
  std::span<const char* const> stages;
  double width, depth;
  std::int64_t head, size = 224;
  double crop = 0.875;
  bool bilinear = false;
};
constexpr V3Variant kV3Variants[] = {
    {"mobilenetv3_large_075", kV3Large, 0.75, 1, 1280, 224, 0.875, true},
    {"mobilenetv3_large_100", kV3Large, 1, 1, 1280},
    {"mobilenetv3_large_150d", kV3Large, 1.5, 1.2, 1280, 256, 0.95, true},
    {"mobilenetv3_small_050", kV3Small, 0.5, 1, 1024},
    {"mobilenetv3_small_075", kV3Small, 0.75, 1, 1024},
    {"mobilenetv3_small_100", kV3Small, 1, 1, 1024},
    {"tf_mobilenetv3_large_075", kV3Large, 0.75, 1, 1280},
    {"tf_mobilenetv3_large_100", kV3Large, 1, 1, 1280},
    {"tf_mobilenetv3_large_minimal_100", kV3LargeMinimal, 1, 1, 1280},
    {"tf_mobilenetv3_small_075", kV3Small, 0.75, 1, 1024},
    {"tf_mobilenetv3_small_100", kV3Small, 1, 1, 1024},
    {"tf_mobilenetv3_small_minimal_100", kV3SmallMinimal, 1, 1, 1024}};

// torchvision counts blocks through and numbers the layers inside one.
BlockNames torchvision_block(const BlockPlace& p) {
  const std::string b = fmt::format("features.{}.conv.", p.overall + 1);
  if (!p.expands) return {"", "", b + "0.0", b + "0.1", b + "1", b + "2", ""};
  return {b + "0.0", b + "0.1", b + "1.0", b + "1.1", b + "2", b + "3", ""};
}

const Naming kTorchvisionNaming = {"features.0.0",  "features.0.1", "features.18.0",
                                   "features.18.1", "classifier.1", torchvision_block};

void add_v1(std::vector<Model>& models) {
  for (const V1Variant& v : kV1Variants) {
    io::Preprocessing p;
    p.mean = p.std = {0.5F, 0.5F, 0.5F};
    p.crop = v.crop;
    models.push_back(recipe_model({v.name, "MobileNetV1", "timm", p},
                                  {kV1, 32, v.head, 1024, ActivationKind::kRelu6, {v.width}}));
  }
}

void add_v2(std::vector<Model>& models) {
  for (const V2Variant& v : kV2Variants) {
    // The head is never narrower than 1280; stem, head and end stages of the deeper variants stay.
    const bool deeper = v.depth > 1;
    Scaling scaling{v.width, v.depth, deeper, deeper || v.width < 1, deeper};
    models.push_back(recipe_model({v.name, "MobileNetV2", "timm", {}},
                                  {kV2, 32, Head::kConv, 1280, ActivationKind::kRelu6, scaling}));
  }
  io::Preprocessing bilinear;
  bilinear.interpolation = io::Interpolation::kBilinear;
  models.push_back(
      recipe_model({"mobilenet_v2", "MobileNetV2", "torchvision", bilinear},
                   {kV2, 32, Head::kConv, 1280, ActivationKind::kRelu6, {}, &kTorchvisionNaming}));
}

void add_v3(std::vector<Model>& models) {
  for (const V3Variant& v : kV3Variants) {
    const std::string name = v.name;
    const bool tf = name.starts_with("tf_");
    const bool minimal = name.find("minimal") != std::string::npos;
    io::Preprocessing p;
    p.size = v.size;
    p.crop = v.crop;
    if (tf || v.bilinear) p.interpolation = io::Interpolation::kBilinear;
    if (tf || v.depth > 1) p.mean = p.std = {0.5F, 0.5F, 0.5F};
    Recipe recipe{v.stages,
                  16,
                  Head::kPooled,
                  v.head,
                  minimal ? ActivationKind::kRelu : ActivationKind::kHardSwish,
                  {v.width, v.depth, v.width < 0.75, true}};
    recipe.squeeze = {true, true, true, ActivationKind::kHardSigmoid};
    if (tf) recipe.flavour = {true, 1e-3};
    models.push_back(recipe_model({v.name, "MobileNetV3", "timm", p}, recipe));
  }
}

}  // namespace

std::vector<Model> mobilenet_models() {
  std::vector<Model> models;
  add_v1(models);
  add_v2(models);
  add_v3(models);
  return models;
}

}  // namespace sepconv::models
