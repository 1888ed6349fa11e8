#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/row_op.h"

namespace sepconv {

/// How threads share one op's output out: some of its rows times some shares of its channels each.
struct Grid {
  std::int64_t rows, shares;  ///< how many parts of each

  std::int64_t cells() const { return rows * shares; }
  /// Of `all` rows or shares, those of part `i` of `parts`.
  static RowRange part(std::int64_t all, std::int64_t i, std::int64_t parts) {
    return {all * i / parts, all * (i + 1) / parts};
  }
};

/// The part of an op's work that the busiest of a grid's cells has.
inline double busiest(const Grid& g, std::int64_t rows, std::int64_t shares) {
  const auto largest = [](std::int64_t all, std::int64_t parts) {
    return static_cast<double>((all + parts - 1) / parts) / static_cast<double>(all);
  };
  return largest(rows, g.rows) * largest(shares, g.shares);
}

/// The grid of at most `threads` cells whose busiest cell has least to do; among equals the one
/// that moves fewer bytes: every part of the rows reads all weights, every part of the channels all
/// of the input.
inline Grid make_grid(const RowOp& op, std::int64_t rows, std::int64_t threads) {
  const std::int64_t shares = op.shares();
  const double weights = static_cast<double>(op.weight_bytes());
  const double input = 4.0 * static_cast<double>(op.input().height * op.input().row_floats());
  Grid best{1, 1};
  const auto better = [&](const Grid& g) {
    const double work = busiest(g, rows, shares), least = busiest(best, rows, shares);
    const auto bytes = [&](const Grid& of) {
      return weights * static_cast<double>(of.rows) + input * static_cast<double>(of.shares);
    };
    return work < 0.999 * least || (work <= 1.001 * least && bytes(g) < bytes(best));
  };
  const std::int64_t most = std::min(rows, threads);
  for (std::int64_t r = 1; r <= most;) {
    const Grid g{r, std::min(threads / r, shares)};
    if (better(g)) best = g;
    // The next number of parts that are smaller.
    const std::int64_t largest = (rows + r - 1) / r;
    if (largest <= 1) break;
    r = (rows + largest - 2) / (largest - 1);
  }
  return best;
}

}  // namespace sepconv
