#pragma once

#include <cstdint>

#include "sepconv/ops.h"

namespace sepconv {

/// Which channels are a head's: [first + head · step, first + head · step + count). With a step of
/// 0 all heads have the same (multi-query attention, Shazeer, 2019).
struct HeadChannels {
  std::int64_t first = 0, step = 0, count = 0;
};

/// Where the heads of multi-head attention (Vaswani et al., 2017) find their queries, keys and
/// values, and what the products of the first two are multiplied by.
struct AttentionHeads {
  std::int64_t heads = 1;
  HeadChannels q, k, v;
  double scale = 1;

  /// Of a value that has Q, K and V one after the other, each `channels` wide, scaled by 1 / √depth
  /// with a depth of channels / heads. Throws ArgumentError where that is no whole number.
  static AttentionHeads of_thirds(std::int64_t heads, std::int64_t channels);
};

/// Which pixels attend to each other: those of a window of this size, as in windows side by side
/// (Liu et al., "Swin Transformer", 2021) or, `dilated`, as far apart as there are windows along an
/// axis (Tu et al., "MaxViT", 2022). A size of 0 takes the whole map.
struct AttentionWindow {
  Size2d size = 0;
  bool dilated = false;
  bool operator==(const AttentionWindow&) const = default;

  bool whole() const { return size == Size2d(0); }
};

}  // namespace sepconv
