#include "models/inverted_residual.h"

namespace sepconv::models {

namespace {

// Tan and Le, "MixConv: Mixed Depthwise Convolutional Kernels", 2019, figure 5 and reference code.
constexpr const char* kSmall[] = {
    "ds_r1_k3_s1_c16",                                                              // 112
    "ir_r1_k3_a1.1_p1.1_s2_e6_c24 ir_r1_k3_a1.1_p1.1_s1_e3_c24",                    // 56
    "ir_r1_k3.5.7_s2_e6_c40_se0.5_nsw ir_r3_k3.5_a1.1_p1.1_s1_e6_c40_se0.5_nsw",    // 28
    "ir_r1_k3.5.7_p1.1_s2_e6_c80_se0.25_nsw ir_r2_k3.5_p1.1_s1_e6_c80_se0.25_nsw",  // 14
    ("ir_r1_k3.5.7_a1.1_p1.1_s1_e6_c120_se0.5_nsw "
     "ir_r2_k3.5.7.9_a1.1_p1.1_s1_e3_c120_se0.5_nsw"),                                   // 14
    "ir_r1_k3.5.7.9.11_s2_e6_c200_se0.5_nsw ir_r2_k3.5.7.9_p1.1_s1_e6_c200_se0.5_nsw"};  // 7
constexpr const char* kMedium[] = {
    "ds_r1_k3_s1_c24",                                                                  // 112
    "ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c32 ir_r1_k3_a1.1_p1.1_s1_e3_c32",                    // 56
    "ir_r1_k3.5.7.9_s2_e6_c40_se0.5_nsw ir_r3_k3.5_a1.1_p1.1_s1_e6_c40_se0.5_nsw",      // 28
    "ir_r1_k3.5.7_s2_e6_c80_se0.25_nsw ir_r3_k3.5.7.9_a1.1_p1.1_s1_e6_c80_se0.25_nsw",  // 14
    "ir_r1_k3_s1_e6_c120_se0.5_nsw ir_r3_k3.5.7.9_a1.1_p1.1_s1_e3_c120_se0.5_nsw",      // 14
    "ir_r1_k3.5.7.9_s2_e6_c200_se0.5_nsw ir_r3_k3.5.7.9_p1.1_s1_e6_c200_se0.5_nsw"};    // 7

struct Variant {
  const char* name;
  std::span<const char* const> stages;
  std::int64_t stem;
  double width = 1, depth = 1;
};

constexpr Variant kVariants[] = {
    {"mixnet_s", kSmall, 16},         {"mixnet_m", kMedium, 24},
    {"mixnet_l", kMedium, 24, 1.3},   {"mixnet_xl", kMedium, 24, 1.6, 1.2},
    {"tf_mixnet_s", kSmall, 16},      {"tf_mixnet_m", kMedium, 24},
    {"tf_mixnet_l", kMedium, 24, 1.3}};

}  // namespace

std::vector<Model> mixnet_models() {
  std::vector<Model> models;
  for (const Variant& v : kVariants) {
    Scaling scaling{v.width, v.depth, false, true};
    scaling.rounds_depth = true;
    Recipe recipe{v.stages, v.stem, Head::kConv, 1536, ActivationKind::kRelu, scaling};
    if (std::string(v.name).starts_with("tf_")) recipe.flavour = {true, 1e-3};
    models.push_back(recipe_model({v.name, "MixNet", "timm", {}}, recipe));
  }
  return models;
}

}  // namespace sepconv::models
