#include <fmt/format.h>

#include "models/family.h"
#include "models/layers.h"

namespace sepconv::models {

namespace {

// Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, table 1; DeiT: Touvron et al., 2021.
struct Variant {
  const char* name;
  std::int64_t patch, width, depth, heads;
};

constexpr Variant kVariants[] = {
    {"vit_tiny_patch16_224", 16, 192, 12, 3},  {"vit_small_patch16_224", 16, 384, 12, 6},
    {"vit_base_patch16_224", 16, 768, 12, 12}, {"vit_large_patch16_224", 16, 1024, 24, 16},
    {"vit_small_patch32_224", 32, 384, 12, 6}, {"vit_base_patch32_224", 32, 768, 12, 12},
    {"deit_tiny_patch16_224", 16, 192, 12, 3}, {"deit_small_patch16_224", 16, 384, 12, 6},
    {"deit_base_patch16_224", 16, 768, 12, 12}};

constexpr std::int64_t kSize = 224;
constexpr double kEpsilon = 1e-6;
// Patches as images, of so many blocks at the end.
constexpr std::int64_t kMaps = 3;

Graph build(const Variant& v, Weights& weights, std::int64_t classes) {
  Builder builder(weights);
  const std::int64_t grid = kSize / v.patch, width = v.width;
  ClassTokensNode tokens;
  tokens.token = builder.get("cls_token", {1, 1, width});
  tokens.positions = builder.get("pos_embed", {1, 1 + grid * grid, width});
  tokens.grid = grid;
  tokens.patch = v.patch;
  ValueId x = builder.conv_bias(0, {"patch_embed.proj", "", 3, width, v.patch, v.patch});
  x = builder.graph.add("tokens", std::move(tokens), {x});
  std::vector<ValueId> maps;
  for (std::int64_t i = 0; i < v.depth; ++i) {
    const std::string b = fmt::format("blocks.{}.", i);
    const ValueId before = x;
    x = builder.layer_norm(x, b + "norm1", width, kEpsilon);
    x = builder.conv_bias(x, {b + "attn.qkv", "", width, 3 * width}, true);
    x = builder.graph.add(b + "attn", AttentionNode{AttentionHeads::of_thirds(v.heads, width), {}},
                          {x, x, x});
    x = builder.conv_bias(x, {b + "attn.proj", "", width, width}, true);
    const ValueId between = x = builder.add(x, before, b + "add1");
    x = builder.layer_norm(x, b + "norm2", width, kEpsilon);
    x = builder.conv_bias(x, {b + "mlp.fc1", "", width, 4 * width, 1, 1, 1, ActivationKind::kGelu},
                          true);
    x = builder.conv_bias(x, {b + "mlp.fc2", "", 4 * width, width}, true);
    x = builder.add(x, between, b + "add2");
    if (i >= v.depth - kMaps) maps.push_back(x);
  }
  std::vector<ValueId> stages;
  stages.reserve(maps.size());
  for (const ValueId map : maps) {
    stages.push_back(
        builder.graph.add(builder.graph.nodes[map].name + ".map", PatchMapNode{v.patch}, {map}));
  }
  builder.graph.stages = stages;
  // Only the class token is read, so only it is normalised.
  x = builder.graph.add("class_token", FirstTokenNode{}, {x});
  x = builder.layer_norm(x, "norm", width, kEpsilon);
  builder.linear(x, "head", width, classes);
  return std::move(builder.graph);
}

}  // namespace

std::vector<Model> vit_models() {
  std::vector<Model> models;
  for (const Variant& v : kVariants) {
    io::Preprocessing p;
    p.size = kSize;
    p.crop = 0.9;
    const bool deit = std::string(v.name).starts_with("deit");
    if (!deit) p.mean = p.std = {0.5F, 0.5F, 0.5F};
    Model model;
    model.info = {v.name, deit ? "DeiT" : "ViT", "timm", p};
    model.build = [&v](Weights& weights) { return build(v, weights, 1000); };
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace sepconv::models
