#pragma once

#include <cstdint>

#include "ops/row_op.h"

namespace sepconv {

/// Of `all`, those of part `i` of `parts`.
RowRange part_of(std::int64_t all, std::int64_t i, std::int64_t parts);

/// How threads share some rows of an op's output out: a cell each, which is a run of the op's tiles
/// of rows and columns, row by row, times some shares of the channels.
class Grid {
 public:
  /// At most so many runs and shares of each.
  Grid(const RowOp& op, RowRange rows, std::int64_t runs, std::int64_t shares);
  /// That of at most `threads` cells which should take the least time.
  static Grid best(const RowOp& op, RowRange rows, std::int64_t threads);
  /// Parts of whole rows, all channels each.
  static Grid by_rows(const RowOp& op, RowRange rows, std::int64_t parts);

  std::int64_t cells() const { return runs_ * shares_; }
  Part cell(std::int64_t n) const;
  /// The part of all that is to be computed which the busiest cell computes.
  double busiest() const;
  /// What the busiest cell's thread has to do, as operations: to compute, to read weights, and to
  /// fetch what other threads made, who are taken to make whole pixels.
  double price() const;

 private:
  std::int64_t tiles() const { return down_ * across_; }
  void cut(std::int64_t runs, std::int64_t shares);
  double longest_run() const;
  double largest_share() const;

  const RowOp* op_;
  RowRange rows_;
  std::int64_t width_;          ///< of a tile
  std::int64_t down_, across_;  ///< how many tiles
  std::int64_t all_shares_;
  double flops_, repeated_;                           ///< of these rows, and as the op says
  double weight_bytes_, input_bytes_, output_bytes_;  ///< of the op
  std::int64_t runs_ = 1, shares_ = 1;
};

}  // namespace sepconv
