#include "models/inverted_residual.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sepconv::models {

namespace {

// Nearest multiple of 8, but not below 90 % of the value (Sandler et al., 2018, reference code).
std::int64_t round_channels(double channels) {
  const std::int64_t rounded =
      std::max<std::int64_t>(8, static_cast<std::int64_t>(channels + 4) / 8 * 8);
  return static_cast<double>(rounded) < 0.9 * channels ? rounded + 8 : rounded;
}

std::int64_t scaled(std::int64_t channels, double width) {
  return round_channels(static_cast<double>(channels) * width);
}

BlockNames timm_block(const BlockPlace& p) {
  const std::string b = fmt::format("blocks.{}.{}.", p.stage, p.in_stage);
  if (p.kind != BlockKind::kInvertedResidual) {
    return {"", "", b + "conv_dw", b + "bn1", b + "conv_pw", b + "bn2"};
  }
  return {b + "conv_pw", b + "bn1", b + "conv_dw", b + "bn2", b + "conv_pwl", b + "bn3"};
}

struct Block {
  BlockKind kind;
  std::int64_t in, middle, out, kernel, stride;
};

ValueId add_block(Builder& builder, ValueId x, const Block& b, const BlockNames& names,
                  const Activation& activation) {
  const ValueId input = x;
  if (b.kind == BlockKind::kInvertedResidual && !names.expand.empty()) {
    x = builder.conv_norm(x,
                          {names.expand, names.expand_norm, b.in, b.middle, 1, 1, 1, activation});
  }
  x = builder.conv_norm(x, {names.depthwise, names.depthwise_norm, b.middle, b.middle, b.kernel,
                            b.stride, b.middle, activation});
  const bool activates = b.kind == BlockKind::kSeparableActivated;
  x = builder.conv_norm(x, {names.project, names.project_norm, b.middle, b.out, 1, 1, 1,
                            activates ? activation : Activation()});
  const bool residual = !activates && b.stride == 1 && b.in == b.out;
  return residual ? builder.add(x, input, names.project + ".add") : x;
}

}  // namespace

const Naming kTimmNaming = {"conv_stem", "bn1", "conv_head", "bn2", "classifier", timm_block};

Graph build_inverted_residual_network(const Recipe& recipe, Weights& weights,
                                      std::int64_t classes) {
  const Scaling& s = recipe.scaling;
  const double end_width = s.fixed_ends ? 1.0 : s.width;
  Builder builder(weights);
  std::int64_t channels = s.fixed_ends ? recipe.stem : scaled(recipe.stem, s.width);
  ValueId x = builder.conv_norm(
      0, {recipe.naming->stem, recipe.naming->stem_norm, 3, channels, 3, 2, 1, recipe.activation});
  std::size_t overall = 0;
  for (std::size_t i = 0; i < recipe.stages.size(); ++i) {
    const Stage& stage = recipe.stages[i];
    const bool end = i == 0 || i + 1 == recipe.stages.size();
    const double depth = s.fixed_ends && end ? 1.0 : s.depth;
    const auto repeats =
        static_cast<std::int64_t>(std::ceil(static_cast<double>(stage.repeats) * depth));
    const std::int64_t out = scaled(stage.channels, s.width);
    for (std::int64_t j = 0; j < repeats; ++j, ++overall) {
      const std::int64_t middle =
          stage.kind == BlockKind::kInvertedResidual ? channels * stage.expansion : channels;
      const BlockPlace place{i, static_cast<std::size_t>(j), overall, stage.kind,
                             middle != channels};
      const Block block{stage.kind, channels, middle, out, stage.kernel, j == 0 ? stage.stride : 1};
      x = add_block(builder, x, block, recipe.naming->block(place), recipe.activation);
      channels = out;
    }
  }
  if (recipe.head > 0) {
    const std::int64_t head = std::max(recipe.head, scaled(recipe.head, end_width));
    x = builder.conv_norm(x, {recipe.naming->head, recipe.naming->head_norm, channels, head, 1, 1,
                              1, recipe.activation});
    channels = head;
  }
  builder.classifier(x, recipe.naming->classifier, channels, classes);
  return std::move(builder.graph);
}

Model recipe_model(ModelInfo info, const Recipe& recipe) {
  const std::int64_t classes = info.classes;
  Model model;
  model.info = std::move(info);
  model.build = [recipe, classes](Weights& weights) {
    return build_inverted_residual_network(recipe, weights, classes);
  };
  return model;
}

}  // namespace sepconv::models
