#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/depthwise.h"
#include "ops/row_op.h"

namespace sepconv {

/// A two-dimensional window: kernel size, stride, dilation and padding along rows and columns.
struct Window2d {
  Window rows, columns;

  std::int64_t taps() const { return rows.size * columns.size; }
  bool pads() const { return columns.pad != 0; }
};

inline std::int64_t extent(const Window& w) { return (w.size - 1) * w.dilation + 1; }

/// The input positions in [0, size) that outputs [out.begin, out.end) look at.
inline RowRange positions(const Window& w, RowRange out, std::int64_t size) {
  const std::int64_t begin = out.begin * w.stride - w.pad;
  const std::int64_t end = (out.end - 1) * w.stride - w.pad + extent(w);
  const std::int64_t first = std::clamp<std::int64_t>(begin, 0, size);
  return {first, std::clamp<std::int64_t>(end, first, size)};
}

/// " s2 d3", what is 1 left out.
std::string describe_steps(const Window2d& window);

/// Outputs along an axis, each of which has as many taps within the input.
struct Stretch {
  RowRange outputs;
  std::int64_t taps;
};

/// The outputs in [0, outputs) in stretches that have the same taps within the input's [0, size).
std::vector<Stretch> stretches(const Window& w, std::int64_t size, std::int64_t outputs);

}  // namespace sepconv
