#include "ops/grid.h"

#include <algorithm>

#include "base/sizes.h"

namespace sepconv {

namespace {

// The part of `all` that the largest of so many parts has.
double largest_part(std::int64_t all, std::int64_t parts) {
  return all == 0 ? 0 : static_cast<double>(divide_up(all, parts)) / static_cast<double>(all);
}

double part_of_height(const RowOp& op, RowRange rows) {
  const auto height = static_cast<double>(std::max<std::int64_t>(1, op.output().height));
  return static_cast<double>(rows.size()) / height;
}

double bytes_of(const ImageShape& image) {
  return sizeof(float) * static_cast<double>(image.height * image.row_floats());
}

// As operations: reading a byte of weights, mostly while others are multiplied, and fetching one
// that another core has written. In order of memory the latter takes as long as four where cores
// share their last cache, and seven where they do not (Zen 5).
constexpr double kReadWeight = 2, kFetched = 8;

}  // namespace

RowRange part_of(std::int64_t all, std::int64_t i, std::int64_t parts) {
  return {all * i / parts, all * (i + 1) / parts};
}

Grid::Grid(const RowOp& op, RowRange rows, std::int64_t runs, std::int64_t shares)
    : op_(&op),
      rows_(rows),
      width_(op.column_tile()),
      down_(divide_up(rows.size(), op.row_tile())),
      across_(divide_up(op.output().width, width_)),
      all_shares_(op.shares()),
      flops_(op.flops() * part_of_height(op, rows)),
      repeated_(op.repeated()),
      weight_bytes_(static_cast<double>(op.weight_bytes())),
      input_bytes_(bytes_of(op.input())),
      output_bytes_(bytes_of(op.output())) {
  cut(runs, shares);
}

void Grid::cut(std::int64_t runs, std::int64_t shares) {
  runs_ = std::min(runs, tiles());
  shares_ = std::min(shares, all_shares_);
}

Grid Grid::by_rows(const RowOp& op, RowRange rows, std::int64_t parts) {
  Grid grid(op, rows, 1, 1);
  grid.width_ = std::max<std::int64_t>(1, op.output().width);
  grid.across_ = 1;
  grid.cut(parts, 1);
  return grid;
}

Part Grid::cell(std::int64_t n) const {
  const RowRange run = part_of(tiles(), n / shares_, runs_);
  const std::int64_t height = op_->row_tile(), last = run.end - 1;
  Part part = op_->whole({rows_.begin + run.begin / across_ * height,
                          std::min(rows_.end, rows_.begin + (last / across_ + 1) * height)});
  part.shares = part_of(all_shares_, n % shares_, shares_);
  part.first_column = run.begin % across_ * width_;
  part.end_column = std::min(part.end_column, (last % across_ + 1) * width_);
  return part;
}

double Grid::longest_run() const { return largest_part(tiles(), runs_); }

double Grid::largest_share() const { return largest_part(all_shares_, shares_); }

double Grid::busiest() const {
  return longest_run() * (repeated_ + (1 - repeated_) * largest_share());
}

double Grid::price() const {
  const double others = 1 - 1 / static_cast<double>(shares_);
  const double fetched = longest_run() * (input_bytes_ + largest_share() * output_bytes_) * others;
  return busiest() * flops_ + kReadWeight * largest_share() * weight_bytes_ + kFetched * fetched;
}

Grid Grid::best(const RowOp& op, RowRange rows, std::int64_t threads) {
  Grid grid(op, rows, 1, 1), best = grid;
  const std::int64_t tiles = grid.tiles(), most = std::min(tiles, threads);
  for (std::int64_t runs = 1; runs <= most;) {
    grid.cut(runs, threads / runs);
    if (grid.price() < best.price()) best = grid;
    // The next number of runs that are shorter.
    const std::int64_t length = divide_up(tiles, runs);
    if (length == 1) break;
    runs = divide_up(tiles, length - 1);
  }
  return best;
}

}  // namespace sepconv
