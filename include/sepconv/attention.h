#pragma once

#include <cstdint>

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

}  // namespace sepconv
