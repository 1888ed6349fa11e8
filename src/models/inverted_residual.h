#pragma once

#include <span>
#include <string>
#include <vector>

#include "models/family.h"
#include "models/layers.h"

namespace sepconv::models {

enum class BlockKind {
  kConv,                ///< "cn": conv k×k + act
  kSeparable,           ///< "ds": dw k×k + act, pw (linear)
  kSeparableActivated,  ///< "dsa": dw k×k + act, pw + act; never a residual (MobileNetV1)
  kInvertedResidual,    ///< "ir": pw + act, dw k×k + act, pw (linear)
  kFused,               ///< "er": conv k×k + act, pw (linear): the first two of "ir" in one
};

/// A line of the papers' tables.
///
/// It is written as timm writes it: the kind, then fields joined by "_": r repeats, k kernel size
/// (several for ranges of channels: k3.5.7), s stride of the stage's first block, e expansion, c
/// channels, se squeeze-excite's part of the channels, a1.1 and p1.1 for expansion and projection
/// in two groups, nre and nsw for ReLU and SiLU in place of the network's activation, skip for a
/// residual around "cn".
struct Row {
  BlockKind kind;
  std::int64_t repeats = 1;
  std::vector<std::int64_t> kernels = {1};
  std::int64_t stride = 1;
  double expansion = 1;
  std::int64_t channels = 0;
  double squeeze = 0;
  std::int64_t expand_groups = 1, project_groups = 1;
  bool other_activation = false;
  Activation activation;
  bool skip = false;
};

Row parse_row(const std::string& text);

/// What turns a table into one of its variants.
struct Scaling {
  double width = 1, depth = 1;
  bool fixed_stem = false;    ///< width leaves the stem alone
  bool fixed_head = false;    ///< and the head
  bool fixed_ends = false;    ///< depth leaves first and last stage alone
  bool rounds_depth = false;  ///< to the nearest number of blocks, not up
  double least_share = 0.9;   ///< of its width that rounding to 8 must leave
};

/// How squeeze-excite is sized and activated.
struct SqueezeStyle {
  bool of_expanded = false;  ///< the share is of the expanded channels, not the block's input
  bool rounds = false;       ///< to multiples of 8
  bool relu = false;         ///< ReLU in place of the block's activation
  ActivationKind gate = ActivationKind::kSigmoid;
};

/// Prefixes of the tensors' names of one block.
struct BlockNames {
  std::string expand, expand_norm, depthwise, depthwise_norm, project, project_norm, squeeze;
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

/// timm's names of tensors.
extern const Naming kTimmNaming;

enum class Head {
  kNone,
  kConv,    ///< pw + norm + act, then the pool
  kPooled,  ///< the pool, then pw with bias + act (MobileNetV3)
};

/// A whole network: stem 3×3 stride 2, stages, head and pool, classifier.
struct Recipe {
  std::span<const char* const> stages;  ///< a stage's rows, separated by spaces
  std::int64_t stem;
  Head head_kind;
  std::int64_t head;
  Activation activation;
  Scaling scaling;
  const Naming* naming = &kTimmNaming;
  SqueezeStyle squeeze = {};
  Flavour flavour = {};
};

Graph build_inverted_residual_network(const Recipe& recipe, Weights& weights, std::int64_t classes);

/// The network under its name.
Model recipe_model(ModelInfo info, const Recipe& recipe);

}  // namespace sepconv::models
