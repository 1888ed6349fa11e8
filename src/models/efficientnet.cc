#include "models/inverted_residual.h"

namespace sepconv::models {

namespace {

// Tan and Le, "EfficientNet", 2019, table 1.
constexpr const char* kB[] = {"ds_r1_k3_s1_c16_se0.25",      // 1/2
                              "ir_r2_k3_s2_e6_c24_se0.25",   // 1/4
                              "ir_r2_k5_s2_e6_c40_se0.25",   // 1/8
                              "ir_r3_k3_s2_e6_c80_se0.25",   // 1/16
                              "ir_r3_k5_s1_e6_c112_se0.25",  // 1/16
                              "ir_r4_k5_s2_e6_c192_se0.25",  // 1/32
                              "ir_r1_k3_s1_e6_c320_se0.25"};

// The same without squeeze-excite, with ReLU6 and ends that do not scale (tensorflow/tpu,
// efficientnet/lite).
constexpr const char* kLite[] = {"ds_r1_k3_s1_c16",      // 1/2
                                 "ir_r2_k3_s2_e6_c24",   // 1/4
                                 "ir_r2_k5_s2_e6_c40",   // 1/8
                                 "ir_r3_k3_s2_e6_c80",   // 1/16
                                 "ir_r3_k5_s1_e6_c112",  // 1/16
                                 "ir_r4_k5_s2_e6_c192",  // 1/32
                                 "ir_r1_k3_s1_e6_c320"};

// Tan and Le, "EfficientNetV2", 2021, table 4, and its reference code for the others.
constexpr const char* kV2B[] = {"cn_r1_k3_s1_c16_skip",        // 1/2
                                "er_r2_k3_s2_e4_c32",          // 1/4
                                "er_r2_k3_s2_e4_c48",          // 1/8
                                "ir_r3_k3_s2_e4_c96_se0.25",   // 1/16
                                "ir_r5_k3_s1_e6_c112_se0.25",  // 1/16
                                "ir_r8_k3_s2_e6_c192_se0.25"};
constexpr const char* kV2S[] = {"cn_r2_k3_s1_c24_skip",        // 1/2
                                "er_r4_k3_s2_e4_c48",          // 1/4
                                "er_r4_k3_s2_e4_c64",          // 1/8
                                "ir_r6_k3_s2_e4_c128_se0.25",  // 1/16
                                "ir_r9_k3_s1_e6_c160_se0.25",  // 1/16
                                "ir_r15_k3_s2_e6_c256_se0.25"};
constexpr const char* kV2M[] = {"cn_r3_k3_s1_c24_skip",         // 1/2
                                "er_r5_k3_s2_e4_c48",           // 1/4
                                "er_r5_k3_s2_e4_c80",           // 1/8
                                "ir_r7_k3_s2_e4_c160_se0.25",   // 1/16
                                "ir_r14_k3_s1_e6_c176_se0.25",  // 1/16
                                "ir_r18_k3_s2_e6_c304_se0.25",  // 1/32
                                "ir_r5_k3_s1_e6_c512_se0.25"};
constexpr const char* kV2L[] = {"cn_r4_k3_s1_c32_skip",         // 1/2
                                "er_r7_k3_s2_e4_c64",           // 1/4
                                "er_r7_k3_s2_e4_c96",           // 1/8
                                "ir_r10_k3_s2_e4_c192_se0.25",  // 1/16
                                "ir_r19_k3_s1_e6_c224_se0.25",  // 1/16
                                "ir_r25_k3_s2_e6_c384_se0.25",  // 1/32
                                "ir_r7_k3_s1_e6_c640_se0.25"};

struct Variant {
  const char* name;
  double width, depth;
  std::int64_t size;
  double crop;
  bool half = false;  // mean and deviation 0.5, not ImageNet's
  bool bilinear = false;
};

constexpr Variant kBVariants[] = {
    {"efficientnet_b0", 1.0, 1.0, 224, 0.875},    {"efficientnet_b1", 1.0, 1.1, 240, 0.9, true},
    {"efficientnet_b2", 1.1, 1.2, 256, 0.875},    {"efficientnet_b3", 1.2, 1.4, 288, 0.875},
    {"efficientnet_b4", 1.4, 1.8, 320, 0.875},    {"efficientnet_b5", 1.6, 2.2, 448, 1.0},
    {"efficientnet_b6", 1.8, 2.6, 528, 0.942},    {"efficientnet_b7", 2.0, 3.1, 600, 0.949},
    {"tf_efficientnet_b0", 1.0, 1.0, 224, 0.875}, {"tf_efficientnet_b1", 1.0, 1.1, 240, 0.882},
    {"tf_efficientnet_b2", 1.1, 1.2, 260, 0.890}, {"tf_efficientnet_b3", 1.2, 1.4, 300, 0.904},
    {"tf_efficientnet_b4", 1.4, 1.8, 380, 0.922}, {"tf_efficientnet_b5", 1.6, 2.2, 456, 0.934},
    {"tf_efficientnet_b6", 1.8, 2.6, 528, 0.942}, {"tf_efficientnet_b7", 2.0, 3.1, 600, 0.949}};

constexpr Variant kLiteVariants[] = {{"efficientnet_lite0", 1.0, 1.0, 224, 0.875},
                                     {"efficientnet_lite1", 1.0, 1.1, 240, 0.882},
                                     {"efficientnet_lite2", 1.1, 1.2, 260, 0.890},
                                     {"efficientnet_lite3", 1.2, 1.4, 300, 0.904},
                                     {"efficientnet_lite4", 1.4, 1.8, 380, 0.922},
                                     {"tf_efficientnet_lite0", 1.0, 1.0, 224, 0.875, true},
                                     {"tf_efficientnet_lite1", 1.0, 1.1, 240, 0.882, true},
                                     {"tf_efficientnet_lite2", 1.1, 1.2, 260, 0.890, true},
                                     {"tf_efficientnet_lite3", 1.2, 1.4, 300, 0.904, true, true},
                                     {"tf_efficientnet_lite4", 1.4, 1.8, 380, 0.920, true, true}};

struct V2Variant {
  Variant variant;
  std::span<const char* const> stages;
  std::int64_t stem;
};

constexpr V2Variant kV2Variants[] = {{{"tf_efficientnetv2_b0", 1.0, 1.0, 192, 0.875}, kV2B, 32},
                                     {{"tf_efficientnetv2_b1", 1.0, 1.1, 192, 0.882}, kV2B, 32},
                                     {{"tf_efficientnetv2_b2", 1.1, 1.2, 208, 0.890}, kV2B, 32},
                                     {{"tf_efficientnetv2_b3", 1.2, 1.4, 240, 0.9, true}, kV2B, 32},
                                     {{"tf_efficientnetv2_s", 1.0, 1.0, 300, 1.0, true}, kV2S, 24},
                                     {{"tf_efficientnetv2_m", 1.0, 1.0, 384, 1.0, true}, kV2M, 24},
                                     {{"tf_efficientnetv2_l", 1.0, 1.0, 384, 1.0, true}, kV2L, 32}};

Model make(const Variant& v, const char* family, Recipe recipe) {
  io::Preprocessing p;
  p.size = v.size;
  p.crop = v.crop;
  if (v.half) p.mean = p.std = {0.5F, 0.5F, 0.5F};
  if (v.bilinear) p.interpolation = io::Interpolation::kBilinear;
  if (std::string(v.name).starts_with("tf_")) recipe.flavour = {true, 1e-3};
  return recipe_model({v.name, family, "timm", p}, recipe);
}

}  // namespace

std::vector<Model> efficientnet_models() {
  std::vector<Model> models;
  for (const Variant& v : kBVariants) {
    const Scaling scaling{v.width, v.depth};
    models.push_back(
        make(v, "EfficientNet", {kB, 32, Head::kConv, 1280, ActivationKind::kSilu, scaling}));
  }
  for (const Variant& v : kLiteVariants) {
    const Scaling scaling{v.width, v.depth, true, true, true};
    models.push_back(make(v, "EfficientNet-Lite",
                          {kLite, 32, Head::kConv, 1280, ActivationKind::kRelu6, scaling}));
  }
  for (const V2Variant& v : kV2Variants) {
    Scaling scaling{v.variant.width, v.variant.depth};
    if (v.stages.data() == kV2B) scaling.least_share = 0;
    models.push_back(make(v.variant, "EfficientNetV2",
                          {v.stages, v.stem, Head::kConv, 1280, ActivationKind::kSilu, scaling}));
  }
  return models;
}

}  // namespace sepconv::models
