#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "ops/row_op.h"

namespace sepconv {

/// How threads share one op's output out: some of its rows times some shares of its channels each.
struct Grid {
  std::int64_t rows, shares;  ///< how many parts of each

  std::int64_t cells() const { return rows * shares; }
  /// Of `all` rows or shares, those of part `i` of `parts`, tiles of rows whole.
  static RowRange part(std::int64_t all, std::int64_t i, std::int64_t parts,
                       std::int64_t tile = 1) {
    const std::int64_t tiles = (all + tile - 1) / tile;
    return {std::min(all, tiles * i / parts * tile), std::min(all, tiles * (i + 1) / parts * tile)};
  }
};

/// Rows times shares of the largest of a grid's cells.
inline std::int64_t largest_cell(const Grid& g, const RowOp& op, std::int64_t rows) {
  const std::int64_t tile = op.row_tile(), tiles = (rows + tile - 1) / tile;
  return (tiles + g.rows - 1) / g.rows * tile * ((op.shares() + g.shares - 1) / g.shares);
}

/// The part of an op's work that the busiest cell has.
inline double busiest(const Grid& g, const RowOp& op, std::int64_t rows) {
  return static_cast<double>(largest_cell(g, op, rows)) /
         static_cast<double>(largest_cell({1, 1}, op, rows));
}

/// The grid of at most `threads` cells whose largest cell is smallest; among equals the one that
/// moves fewer bytes: every part of the rows reads all weights, every part of the channels all of
/// the input.
inline Grid make_grid(const RowOp& op, std::int64_t rows, std::int64_t threads) {
  const std::int64_t tiles = (rows + op.row_tile() - 1) / op.row_tile();
  const std::int64_t shares = op.shares(), most = std::min(tiles, threads);
  const double weights = static_cast<double>(op.weight_bytes());
  const double input = 4.0 * static_cast<double>(op.input().height * op.input().row_floats());
  const auto price = [&](const Grid& g) {
    return std::pair(largest_cell(g, op, rows),
                     weights * static_cast<double>(g.rows) + input * static_cast<double>(g.shares));
  };
  Grid best{1, 1};
  for (std::int64_t r = 1; r <= most;) {
    const Grid g{r, std::min(threads / r, shares)};
    if (price(g) < price(best)) best = g;
    // The next number of parts that are smaller.
    const std::int64_t tall = (tiles + r - 1) / r;
    if (tall == 1) break;
    r = (tiles + tall - 2) / (tall - 1);
  }
  return best;
}

}  // namespace sepconv
