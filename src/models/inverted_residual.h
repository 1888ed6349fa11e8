#pragma once

#include <span>
#include <string>

#include "models/family.h"
#include "models/layers.h"

namespace sepconv::models {

enum class BlockKind {
  kSeparable,           ///< dw k×k + act, pw (linear)
  kSeparableActivated,  ///< dw k×k + act, pw + act; never a residual (MobileNetV1)
  kInvertedResidual,    ///< pw + act, dw k×k + act, pw (linear); residual where shapes allow
};

/// A line of the papers' tables: n blocks, of which the first has the stride.
struct Stage {
  BlockKind kind;
  std::int64_t repeats, kernel, stride, expansion, channels;
};

/// What turns a table into one of its variants.
struct Scaling {
  double width = 1, depth = 1;
  bool fixed_ends = false;  ///< width and depth leave stem, head, first and last stage alone
};

/// Prefixes of the tensors' names of one block.
struct BlockNames {
  std::string expand, expand_norm, depthwise, depthwise_norm, project, project_norm;
};

/// Where in the network a block stands.
struct BlockPlace {
  std::size_t stage, in_stage, overall;  ///< all from 0
  BlockKind kind;
  bool expands;
};

struct Naming {
  const char *stem, *stem_norm, *head, *head_norm, *classifier;
  BlockNames (*block)(const BlockPlace&);
};

/// A whole network: stem 3×3 stride 2, stages, head 1×1 (none if `head` is 0), pool, classifier.
struct Recipe {
  std::span<const Stage> stages;
  std::int64_t stem, head;
  Activation activation;
  Scaling scaling;
  const Naming* naming;
};

Graph build_inverted_residual_network(const Recipe& recipe, Weights& weights, std::int64_t classes);

/// The network under its name.
Model recipe_model(ModelInfo info, const Recipe& recipe);

/// timm's names of tensors.
extern const Naming kTimmNaming;

}  // namespace sepconv::models
