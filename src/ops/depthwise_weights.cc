#include "ops/depthwise_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/sizes.h"

namespace sepconv {

namespace {

// A row of taps as ShortFilters cuts it, each piece transformed: see kernels/depthwise_winograd.cc.
void transform_row(const float* g, std::int64_t size, double* to) {
  const ShortFilters filters(size);
  for (std::int64_t i = 0; i < filters.threes; ++i, g += 3, to += 4) {
    const double even = double{g[0]} + double{g[2]}, odd = g[1];
    to[0] = -double{g[0]};
    to[1] = (even + odd) / 2;
    to[2] = (even - odd) / 2;
    to[3] = g[2];
  }
  for (std::int64_t i = 0; i < filters.twos; ++i, g += 2, to += 3) {
    to[0] = g[0];
    to[1] = double{g[0]} + double{g[1]};
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

bool is_square3(const Window2d& w) { return w.rows.size == 3 && w.columns.size == 3; }

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
double shared_products(const Window2d& window, std::int64_t out_width) {
  const std::int64_t size = window.columns.size, pairs = (out_width + 1) / 2;
  const double around = is_square3(window) ? 1 : 2;
  return static_cast<double>(pairs) * (static_cast<double>(ShortFilters(size).products()) + around);
}

}  // namespace

SharedWeights pack_depthwise_weights(const LayerWeights& layer, std::size_t channels,
                                     const Window2d& window, std::size_t lanes) {
  const std::size_t taps = to_size(window.taps());
  return layer.packed(fmt::format("depthwise {}", lanes), [&](PageArena* arena) {
    return pack_blocks(layer, channels, taps, lanes, arena, [&](std::size_t c, float* to) {
      std::copy_n(layer.weight() + c * taps, taps, to);
    });
  });
}

SharedWeights pack_depthwise_winograd_weights(const LayerWeights& layer, std::size_t channels,
                                              const Window2d& window, std::size_t lanes) {
  const std::int64_t size = window.columns.size;
  const std::size_t rows = to_size(window.rows.size), row = ShortFilters(size).products();
  return layer.packed(fmt::format("depthwise winograd {}", lanes), [&](PageArena* arena) {
    std::vector<double> transformed(row);
    const auto channel = [&](std::size_t c, float* to) {
      const float* taps = layer.weight() + c * rows * to_size(size);
      for (std::size_t r = 0; r < rows; ++r, taps += size, to += row) {
        transform_row(taps, size, transformed.data());
        std::transform(transformed.begin(), transformed.end(), to,
                       [](double w) { return static_cast<float>(w); });
      }
    };
    return pack_blocks(layer, channels, rows * row, lanes, arena, channel);
  });
}

bool suits_depthwise_winograd(const float* weight, std::size_t channels, const Window2d& window,
                              std::int64_t in_width, std::int64_t out_width) {
  const Window &r = window.rows, &c = window.columns;
  if (r.stride > 1 || c.stride > 1 || r.dilation > 1 || c.dilation > 1 || c.size < 3) return false;
  const auto direct = static_cast<double>(direct_products(c, in_width, out_width));
  if (shared_products(window, out_width) > 0.92 * direct) return false;
  const std::size_t count = channels * to_size(window.taps());
  const auto zeros = std::count(weight, weight + count, 0.0F);
  const bool small =
      std::all_of(weight, weight + count, [](float w) { return std::abs(w) <= 0x1p50F; });
  return small && 4 * to_size(zeros) <= 3 * count;
}

}  // namespace sepconv
