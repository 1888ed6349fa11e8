#include "ops/depthwise_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/sizes.h"
#include "ops/error_bound.h"

namespace sepconv {

namespace {

// A row of taps as ShortFilters cuts it, each piece transformed, in double: see
// kernels/depthwise_winograd.cc.
void transform_row(const float* g, std::int64_t size, float* to) {
  const ShortFilters filters(size);
  const auto rounded = [](double w) { return static_cast<float>(w); };
  for (std::int64_t i = 0; i < filters.threes; ++i, g += 3, to += 4) {
    const double even = double{g[0]} + double{g[2]}, odd = g[1];
    to[0] = -g[0];
    to[1] = rounded((even + odd) / 2);
    to[2] = rounded((even - odd) / 2);
    to[3] = g[2];
  }
  for (std::int64_t i = 0; i < filters.twos; ++i, g += 2, to += 3) {
    to[0] = g[0];
    to[1] = g[0] + g[1];
    to[2] = g[1];
  }
}

// `channel(c, to)` writes the `products` weights of a channel.
template <class Channel>
SharedWeights pack_blocks(const LayerWeights& layer, std::size_t channels, std::size_t products,
                          std::size_t lanes, PageArena* arena, const Channel& channel) {
  const std::size_t blocks = divide_up(channels, lanes);
  auto packed = std::make_shared<PackedWeights>(blocks * products * lanes, blocks * lanes, arena);
  std::vector<float> one(products);
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t first = block_channel(b, channels, lanes);
    const std::size_t count = std::min(lanes, channels - first);
    float* const weights = packed->weights.get() + b * products * lanes;
    float* const biases = packed->bias.get() + b * lanes;
    for (std::size_t i = 0; i < count; ++i) {
      channel(first + i, one.data());
      for (std::size_t t = 0; t < products; ++t) weights[t * lanes + i] = one[t];
      biases[i] = layer.bias() ? layer.bias()[first + i] : 0.0F;
    }
  }
  return packed;
}

// Products of a row of outputs by taps, padding left out.
std::int64_t direct_products(const Window& w, std::int64_t in_width, std::int64_t out_width) {
  std::int64_t products = 0;
  for (std::int64_t j = 0; j < out_width; ++j) {
    const std::int64_t x = j - w.pad;
    products +=
        std::max<std::int64_t>(0, std::min(x + w.size, in_width) - std::max<std::int64_t>(x, 0));
  }
  return products;
}

// The same by pairs of outputs, and what begins and ends them, as so many products.
std::int64_t shared_products(const Window& w, std::int64_t out_width) {
  constexpr std::int64_t kAround = 2;
  return (out_width + 1) / 2 *
         (static_cast<std::int64_t>(ShortFilters(w.size).products()) + kAround);
}

}  // namespace

SharedWeights pack_depthwise_weights(const LayerWeights& layer, std::size_t channels,
                                     std::size_t group, const Window2d& window, std::size_t lanes) {
  const std::size_t products = to_size(window.taps()) * group;
  return layer.packed(fmt::format("depthwise {} {}", group, lanes), [&](PageArena* arena) {
    return pack_blocks(layer, channels, products, lanes, arena, [&](std::size_t c, float* to) {
      std::copy_n(layer.weight() + c * products, products, to);
    });
  });
}

SharedWeights pack_depthwise_winograd_weights(const LayerWeights& layer, std::size_t channels,
                                              const Window2d& window, std::size_t lanes) {
  const std::int64_t size = window.columns.size;
  const std::size_t rows = to_size(window.rows.size), row = ShortFilters(size).products();
  return layer.packed(fmt::format("depthwise winograd {}", lanes), [&](PageArena* arena) {
    const auto channel = [&](std::size_t c, float* to) {
      const float* taps = layer.weight() + c * rows * to_size(size);
      for (std::size_t r = 0; r < rows; ++r, taps += size, to += row) {
        transform_row(taps, size, to);
      }
    };
    return pack_blocks(layer, channels, rows * row, lanes, arena, channel);
  });
}

bool suits_depthwise_winograd(const float* weight, std::size_t channels, const Window2d& window,
                              std::int64_t in_width, std::int64_t out_width) {
  // Smaller windows gain nothing (docs/performance/tried.md).
  constexpr std::int64_t kLeastColumns = 7;
  const Window &r = window.rows, &c = window.columns;
  const bool plain = r.stride == 1 && c.stride == 1 && r.dilation == 1 && c.dilation == 1;
  if (!plain || c.size < kLeastColumns) return false;
  const auto direct = static_cast<double>(direct_products(c, in_width, out_width));
  if (static_cast<double>(shared_products(c, out_width)) > 0.92 * direct) return false;
  return may_trade_products({weight, channels * to_size(window.taps())});
}

}  // namespace sepconv
