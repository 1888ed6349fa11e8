#include "ops/paired_product.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "ops/error_bound.h"
#include "ops/gemm_weights.h"

namespace sepconv {

namespace {

// Parts of a sum, of nearly equal length and whole blocks of rows. One more block is no part of its
// own where L1 has room for that much of a panel: in two parts layers take 1.08 of the time.
std::size_t paired_parts(const PairedOrder& order) {
  constexpr std::size_t kMost = kPairedPart / PairedRows::kBlock, kRoom = std::size_t{48} << 10;
  const std::size_t blocks = PairedRows::blocks(order);
  return blocks <= kMost + (l1_cache_bytes() >= kRoom ? 1 : 0) ? 1 : divide_up(blocks, kMost);
}

// Rows that are prepared at once: in multiples of four, and as many as leave them in L1 for a
// second look.
std::size_t prepared_together(std::size_t products) {
  constexpr std::size_t kFloats = 4096, kFew = 4;
  return std::clamp(kFloats / products / kFew * kFew, kFew, kMostPrepared);
}

std::size_t prepared_bytes(std::size_t rows, std::size_t products) {
  return PairedRows(PairedOrder(products), rows).floats() * sizeof(float);
}

// What prepared values may have of L2.
std::size_t prepared_room() { return l2_cache_bytes() / 2; }

std::size_t steps_for(const PairedSet& set, std::size_t rows, std::size_t products) {
  const std::size_t steps = divide_up(prepared_bytes(rows, products), prepared_room());
  return std::clamp<std::size_t>(steps, 1, set.parts);
}

// The first of a sum's blocks that belongs to part `part`.
std::size_t part_block(const PairedSet& set, const PairedOrder& order, std::size_t part) {
  return PairedRows::blocks(order) * part / set.parts;
}

// What is prepared in a step.
PairedRows step_rows(const PairedSet& set, const PairedOrder& order, std::size_t rows,
                     std::size_t step, std::size_t steps) {
  return {order, rows, part_block(set, order, set.parts * step / steps),
          part_block(set, order, set.parts * (step + 1) / steps)};
}

std::size_t largest_step(const PairedSet& set, const PairedOrder& order, std::size_t rows,
                         std::size_t steps) {
  std::size_t most = 0;
  for (std::size_t step = 0; step < steps; ++step) {
    most = std::max(most, step_rows(set, order, rows, step, steps).floats());
  }
  return most;
}

// How much of everything a product takes, for so many rows and for any fewer, which may be prepared
// in fewer steps.
struct Room {
  std::size_t left, gathered, sums;

  Room(const PairedSet& set, std::size_t rows, const PairedShape& shape)
      : gathered(shape.taps > 1 ? prepared_together(shape.products()) * shape.products() : 0) {
    const PairedOrder order(shape.products());
    const std::size_t steps = steps_for(set, rows, shape.products());
    const std::size_t each = prepared_bytes(1, shape.products());
    left = largest_step(set, order, rows, steps);
    for (std::size_t fewer = 1; fewer < steps; ++fewer) {
      left = std::max(left, largest_step(set, order, fewer * prepared_room() / each, fewer));
    }
    const std::size_t panel = 2 * set.kernels->lanes;
    const std::size_t panels = steps > 1 ? divide_up(shape.columns, panel) : 1;
    sums = set.parts > 1 ? rows * panels * panel : 0;
  }
};

// Cycles that a row takes, measured in layers whose weights come from L2: without pairs a vector's
// product, and finishing one of sums; in pairs a product that is left, in a panel of two vectors
// and of one, finishing, and every other part of a sum; preparing a row, a value, a part of a
// vector, single products, and joining one of its runs to the others.
struct RowCosts {
  double product, finish;
  double paired, narrow, finish_paired, part;
  double row, value, part_of_vector, singles, run;
};
constexpr RowCosts kZen4 = {1.02, 1, 1.02, 1.02, 4.6, 0, 12, 0.25, 8, 3, 0};
constexpr RowCosts kZen5 = {0.516, 0.85, 0.6, 0.81, 2.8, 2.5, 9.5, 0.25, 6.5, 2.5, 10};

// Of few rows weights are read from further away than they can be multiplied.
constexpr std::size_t kLeastRows = 12, kLeastProducts = 24;

const RowCosts& row_costs() { return adders_traded_for() == Adders::kWhole ? kZen5 : kZen4; }

// A row's cycles in pairs, before a group's panels and for these.
struct PairedCycles {
  double prepared, multiplied;

  PairedCycles(const PairedSet& set, const PairedShape& shape) {
    const RowCosts& costs = row_costs();
    const PairedOrder order(shape.products());
    const std::size_t lanes = set.kernels->lanes, whole = divide_up(shape.columns, lanes);
    const auto vectors = static_cast<double>(whole), narrow = static_cast<double>(whole % 2);
    const auto k = static_cast<double>(order.products()), taps = static_cast<double>(shape.taps);
    const auto left = static_cast<double>(2 * order.triples + order.singles);
    prepared = costs.row + costs.value * k +
               (order.triples % lanes > 0 ? costs.part_of_vector : 0) +
               (order.singles > 0 ? costs.singles : 0) + (shape.taps > 1 ? costs.run * taps : 0);
    const double vector =
        costs.paired * left + costs.finish_paired + costs.part * static_cast<double>(set.parts - 1);
    multiplied = vectors * vector + narrow * (costs.narrow - costs.paired) * left;
  }
};

bool pays(const PairedSet& set, const PairedShape& shape) {
  const std::size_t columns = shape.columns, products = shape.products();
  if (shape.rows < kLeastRows || products < kLeastProducts) return false;
  const std::size_t lanes = set.kernels->lanes, half = std::max<std::size_t>(1, lanes / 2);
  // The last panel may have one and a half without pairs.
  const bool halves = gemm_kernels().halves && columns % (2 * lanes) > lanes;
  const double vectors = halves ? static_cast<double>(divide_up(columns, half)) / 2
                                : static_cast<double>(divide_up(columns, lanes));
  const RowCosts& costs = row_costs();
  const double singly = vectors * (costs.product * static_cast<double>(products) + costs.finish);
  const PairedCycles pairs(set, shape);
  return pairs.prepared + pairs.multiplied < 0.98 * singly;
}

// The weights of a panel's columns, [columns][channels][taps], from the first one on.
struct Columns {
  const float* weight;
  std::size_t columns, channels, taps;

  std::size_t products() const { return channels * taps; }
  const float* column(std::size_t j) const { return weight + j * products(); }
  // Where value k of a row, whose taps come one after the other, has its weight.
  std::size_t place(std::size_t k) const {
    return taps == 1 ? k : k % channels * taps + k / channels;
  }
};

PowerOfTwo column_scale(const Columns& c, std::size_t j) {
  double squares = 0;
  for (std::size_t k = 0; k < c.products(); ++k) {
    squares += double{c.column(j)[k]} * double{c.column(j)[k]};
  }
  const auto square = static_cast<float>(squares / static_cast<double>(c.products()));
  // A smaller column's errors vanish with its scale.
  return fits_pairs(square) ? paired_scale(square) : PowerOfTwo{60};
}

// Minus the pairs' products with each other.
float column_start(const float* panel, const PairedOrder& order, std::size_t width) {
  double start = 0;
  for (std::size_t i = 0; i < order.triples; ++i, panel += 3 * width) {
    start -= double{panel[0]} * double{panel[width]};
  }
  return static_cast<float>(start);
}

// `finish` gets what follows the bias.
void pack_panel(const Columns& c, std::size_t width, std::size_t wide, float* panel,
                float* finish) {
  const PairedOrder order(c.products());
  float scales[2 * kLineFloats];
  for (std::size_t j = 0; j < c.columns; ++j) {
    const PowerOfTwo scale = column_scale(c, j);
    scales[j] = scale.value();
    finish[wide + j] = scale.inverse();
  }
  // Some lines of the panel at a time.
  constexpr std::size_t kBlock = 48;
  for (std::size_t begin = 0; begin < c.products(); begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, c.products());
    for (std::size_t j = 0; j < c.columns; ++j) {
      for (std::size_t n = begin; n < end; ++n) {
        const float scale = order.negates(n) ? -scales[j] : scales[j];
        panel[n * width + j] = c.column(j)[c.place(order.k(n))] * scale;
      }
    }
  }
  for (std::size_t j = 0; j < c.columns; ++j) {
    finish[2 * wide + j] = column_start(panel + j, order, width);
  }
}

// A group's panels; `bias` may be null.
void pack_group(const Columns& c, const float* bias, float* packed, float* finish) {
  const GemmKernels& kernels = gemm_kernels();
  const std::size_t wide = kernels.columns, depth = c.products();
  for (std::size_t first = 0; first < c.columns; first += wide) {
    const std::size_t columns = std::min(wide, c.columns - first);
    float* const panel_finish = finish + kPairedBiasParts * first;
    if (bias) std::copy_n(bias + first, columns, panel_finish);
    pack_panel({c.column(first), columns, c.channels, c.taps}, kernels.panel_width(columns), wide,
               packed + first * depth, panel_finish);
  }
}

}  // namespace

std::optional<PairedSet> PairedSet::choose(const PairedShape& shape, const float* weight) {
  if (adders_traded_for() == Adders::kNone) return std::nullopt;
  const std::size_t products = shape.products();
  const PairedSet set{&paired_kernels(), prepare_paired_rows(),
                      paired_parts(PairedOrder(products))};
  if (!pays(set, shape)) return std::nullopt;
  for (std::size_t n = 0; n < shape.groups * shape.columns; ++n) {
    // Or its products would drown in what is added to and subtracted from them.
    const std::span column(weight + n * products, products);
    const bool zeros = std::all_of(column.begin(), column.end(), [](float w) { return w == 0.0F; });
    if (!zeros && !may_trade_products(column)) return std::nullopt;
  }
  return set;
}

double PairedSet::preparation(const PairedShape& shape) const {
  const PairedCycles cycles(*this, shape);
  return cycles.prepared / (cycles.prepared + cycles.multiplied);
}

std::size_t PairedSet::workspace_bytes(std::size_t rows, const PairedShape& shape) const {
  const Room room(*this, rows, shape);
  return align_up(room.left * sizeof(float)) + align_up(room.gathered * sizeof(float)) +
         align_up(room.sums * sizeof(float)) + 2 * align_up(rows * sizeof(float)) +
         align_up(rows * sizeof(PairedKind));
}

std::size_t PairedSet::rows_at_once(const PairedShape& shape) const {
  const std::size_t few =
      std::max<std::size_t>(1, prepared_room() / prepared_bytes(1, shape.products()));
  if (shape.rows <= few) return shape.rows;
  // Few rows again and again read all weights each time, steps read and write all sums each time.
  const std::size_t again = divide_up(shape.rows, few) - 1;
  const std::size_t weights = shape.columns * shape.products() * sizeof(float);
  const std::size_t sums = shape.rows * shape.columns * sizeof(float);
  const bool far = weights > l2_cache_bytes() / 2;
  return parts > again && far && 2 * sums < weights ? shape.rows : few;
}

SharedWeights pack_paired_weights(const LayerWeights& weights, std::size_t groups, std::size_t out,
                                  std::size_t channels, std::size_t taps) {
  const std::size_t depth = channels * taps, each = gemm_weight_floats(out, depth);
  const std::size_t finish_each = kPairedBiasParts * gemm_bias_floats(out);
  const std::string purpose = fmt::format("pairs {} of {}", groups, gemm_kernels().columns);
  return weights.packed(purpose, [&](PageArena* arena) {
    auto packed = std::make_shared<PackedWeights>(groups * each, groups * finish_each, arena);
    for (std::size_t g = 0; g < groups; ++g) {
      pack_group({weights.weight() + g * out * depth, out, channels, taps},
                 weights.bias() ? weights.bias() + g * out : nullptr,
                 packed->weights.get() + g * each, packed->bias.get() + g * finish_each);
    }
    return packed;
  });
}

PairedProduct::PairedProduct(const PairedSet& set, const PairedShape& shape, const GemmTile& tile,
                             const PixelRun* runs, std::size_t rows, const float* scale,
                             std::byte* workspace)
    : set_(set),
      tile_(tile),
      runs_(runs),
      scale_(scale),
      steps_(steps_for(set, rows, shape.products())),
      prepared_(PairedOrder(shape.products()), rows) {
  const Room room(set, rows, shape);
  Carver carver(workspace);
  left_ = carver.take<float>(room.left);
  gathered_ = carver.take<float>(room.gathered);
  sums_ = carver.take<float>(room.sums);
  start_ = carver.take<float>(rows);
  unscale_ = carver.take<float>(rows);
  kind_ = carver.take<PairedKind>(rows);
}

std::size_t PairedProduct::first_product(std::size_t step) const {
  return 3 * PairedRows::kBlock * part_block(set_, prepared_.order, set_.parts * step / steps_);
}

void PairedProduct::prepare(std::size_t step) {
  step_ = step;
  prepared_ = step_rows(set_, prepared_.order, prepared_.rows, step, steps_);
  PixelCursor at{runs_, 0};
  const std::size_t products = prepared_.order.products(), most = prepared_together(products);
  for (std::size_t first = 0; first < prepared_.rows; first += most) {
    const std::size_t count = std::min(most, prepared_.rows - first);
    const float* rows[kMostPrepared];
    for (std::size_t i = 0; i < count; ++i, at.advance(1)) {
      rows[i] = at.tap(tile_, 0);
      if (tile_.taps == 1) continue;
      float* const joined = gathered_ + i * products;
      at.gather(tile_, joined);
      rows[i] = joined;
    }
    set_.prepare({.row = rows,
                  .first = first,
                  .count = count,
                  .to = prepared_,
                  .scale = scale_,
                  .prepared = left_,
                  .start = start_,
                  .unscale = unscale_,
                  .kind = kind_});
  }
}

void PairedProduct::multiply(const GemmTile& tile, std::size_t panel, std::size_t column) const {
  const std::size_t wide = 2 * set_.kernels->lanes;
  PairedTile part{};
  static_cast<GemmTile&>(part) = tile;
  part.block_step = prepared_.block_step();
  if (set_.parts > 1) part.sums = sums_ + (steps_ > 1 ? panel * prepared_.rows * wide : 0);
  const std::size_t end = set_.parts * (step_ + 1) / steps_;
  for (std::size_t i = set_.parts * step_ / steps_; i < end; ++i) {
    const std::size_t triple = part_block(set_, prepared_.order, i) * PairedRows::kBlock;
    const std::size_t behind = part_block(set_, prepared_.order, i + 1) * PairedRows::kBlock;
    part.first = i == 0;
    part.last = i + 1 == set_.parts;
    part.triples = std::min(prepared_.order.triples, behind) - triple;
    part.singles = part.last ? prepared_.order.singles : 0;
    part.ahead = multiply_part(part, triple, column);
  }
}

// All rows' products from triple `triple` on; returns what is to be fetched ahead after them.
const char* PairedProduct::multiply_part(PairedTile tile, std::size_t triple,
                                         std::size_t column) const {
  const PairedKernels& kernels = *set_.kernels;
  const std::size_t width = tile.columns <= kernels.lanes ? kernels.lanes : 2 * kernels.lanes;
  const std::size_t triples = tile.triples, singles = tile.singles;
  float* const sums = tile.sums;
  tile.b += 3 * triple * width;
  PixelCursor at{runs_, 0};
  for (std::size_t row = 0, count; row < prepared_.rows; row += count, at.advance(count)) {
    const std::size_t most = std::min(prepared_.rows - row, at.run->pixels - at.pixel);
    const PairedKind* const kind = kind_ + row;
    count = to_size(
        std::find_if(kind, kind + most, [](PairedKind k) { return k != PairedKind::kPairs; }) -
        kind);
    tile.pairs = count > 0;
    count = std::max<std::size_t>(1, count);
    const bool zeros = *kind == PairedKind::kZeros;
    tile.triples = zeros ? 0 : triples;
    tile.singles = zeros ? 0 : singles;
    tile.rows = left_ + prepared_.offset(triple / PairedRows::kBlock, row);
    tile.rest = left_ + prepared_.offset(prepared_.end, row);
    tile.row_start = start_ + row;
    tile.row_scale = unscale_ + row;
    tile.sums = sums ? sums + row * width : nullptr;
    at.place(tile, column);
    multiply_rows(kernels, tile, count);
  }
  return tile.ahead;
}

}  // namespace sepconv
