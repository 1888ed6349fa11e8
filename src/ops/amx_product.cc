#include "ops/amx_product.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/aligned.h"
#include "base/sizes.h"

namespace sepconv {

namespace {

// Rows times a tile of columns, 32 deep, by FMA: two vectors a cycle, and what is lost.
constexpr double kFmaCycles = 270;
// How many rows a call is expected to have: bands of chains are about so high.
constexpr std::size_t kUsualRows = 256;
// Of columns, to a panel.
constexpr std::size_t kMostTiles = 2;

// Runs that end within a tile's depth are joined first.
bool gathers_taps(std::size_t taps, std::size_t k) { return taps > 1 && k % kAmxDepth != 0; }

// For a tile's rows; or for the sums of one that FMA multiplies.
std::size_t gathered_floats(std::size_t taps, std::size_t k) {
  const std::size_t row = divide_up(taps * k, kAmxDepth) * kAmxDepth;
  return gathers_taps(taps, k) ? kAmxRows * row : kMostTiles * kAmxColumns;
}

// How much of everything a product takes, for so many rows.
struct Room {
  std::size_t left, right, sums, gathered, rows;

  Room(std::size_t row_count, std::size_t taps, std::size_t k)
      : right(kMostTiles * kGemmPart / kAmxDepth * kAmxTileParts),
        gathered(gathered_floats(taps, k)),
        rows(divide_up(row_count, kAmxRows) * kAmxRows) {
    left = AmxSet::split_bytes(rows, taps * k) / sizeof(std::uint16_t);
    const std::size_t summed = std::max(2 * kAmxRows, taps * k > kGemmPart ? rows : 0);
    sums = summed * kMostTiles * kAmxColumns;
  }
};

double ratio(std::size_t a, std::size_t b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

}  // namespace

std::optional<AmxSet> AmxSet::choose(std::size_t rows, std::size_t columns, std::size_t products) {
  // What is cut off products costs as much accuracy as eight roundings.
  constexpr std::size_t kLeastProducts = 16;
  const AmxSet set{&gemm_kernels(), amx_kernels(), &bf16_parts_kernels()};
  const bool fits =
      set.amx && set.gemm->lanes == kAmxColumns && rows > 0 && products >= kLeastProducts;
  if (!fits) return std::nullopt;
  const double m = ratio(std::min(rows, kUsualRows), kAmxRows);
  const auto n = static_cast<double>(divide_up(columns, kAmxColumns));
  const AmxCosts& cost = set.amx->costs;
  const double by_amx = static_cast<double>(divide_up(products, kAmxDepth)) *
                            (cost.multiply * m * n + cost.split * (m + n)) +
                        cost.finish * m * n;
  const double by_fma = kFmaCycles * m * n * ratio(products, kAmxDepth);
  return by_amx < 0.9 * by_fma ? std::optional(set) : std::nullopt;
}

double AmxSet::preparation(std::size_t columns) const {
  const AmxCosts& cost = amx->costs;
  const auto tiles = static_cast<double>(divide_up(columns, kAmxColumns));
  const double all = cost.split + tiles * cost.multiply;
  return all > 0 ? cost.split / all : 0;
}

bool AmxSet::splits(const float* panel, std::size_t products, std::size_t width) const {
  std::uint32_t largest[kMostTiles * kAmxColumns];
  parts->largest_of_columns(panel, products, width, largest);
  return std::all_of(largest, largest + width, splits_well);
}

std::size_t AmxSet::split_bytes(std::size_t rows, std::size_t products) {
  return rows * divide_up(products, kAmxDepth) * kAmxDepth * kBf16Parts * sizeof(std::uint16_t);
}

std::size_t AmxSet::workspace_bytes(std::size_t rows, std::size_t taps, std::size_t k) const {
  const Room room(rows, taps, k);
  return align_up(room.left * sizeof(std::uint16_t)) +
         align_up(room.right * sizeof(std::uint16_t)) + align_up(room.sums * sizeof(float)) +
         align_up(room.gathered * sizeof(float)) + align_up(room.rows * sizeof(bool));
}

std::string AmxSet::describe() {
  return fmt::format("amx {}x{} bf16x{}", 2 * kAmxRows, 2 * kAmxColumns, kBf16Parts);
}

AmxProduct::AmxProduct(const AmxSet& kernels, const GemmTile& tile, const PixelRun* runs,
                       std::size_t rows, std::byte* workspace)
    : kernels_(kernels),
      runs_(runs),
      rows_(rows),
      products_(tile.taps * tile.k),
      steps_(divide_up(products_, kAmxDepth)),
      row_tiles_(divide_up(rows, kAmxRows)),
      tile_rows_(divide_up(rows, row_tiles_)) {
  const Room room(rows, tile.taps, tile.k);
  Carver carver(workspace);
  left_ = carver.take<std::uint16_t>(room.left);
  right_ = carver.take<std::uint16_t>(room.right);
  sums_ = carver.take<float>(room.sums);
  gathered_ = carver.take<float>(room.gathered);
  by_fma_ = carver.take<bool>(room.rows);
  split(tile);
  kernels_.amx->configure(tile_rows_);
}

AmxProduct::~AmxProduct() { kernels_.amx->release(); }

// The left side is [tile of rows][step][part][row][32].
void AmxProduct::split(const GemmTile& tile) {
  const bool gathers = gathers_taps(tile.taps, tile.k);
  const std::size_t taps = gathers ? 1 : tile.taps, run_length = gathers ? products_ : tile.k;
  PixelCursor at{runs_, 0};
  for (std::size_t first = 0; first < rows_; first += tile_rows_) {
    const std::size_t count = std::min(tile_rows_, rows_ - first);
    const float* rows[kAmxRows];
    const PixelCursor start = at;
    std::uint32_t largest[kAmxRows] = {};
    Bf16Rows some{.row = rows,
                  .rows = count,
                  .count = run_length,
                  .to = left_ + first * steps_ * kAmxDepth * kBf16Parts,
                  .tile_rows = tile_rows_,
                  .largest = largest};
    for (std::size_t t = 0; t < taps; ++t) {
      at = start;
      for (std::size_t i = 0; i < count; ++i, at.advance(1)) {
        rows[i] = at.tap(tile, t);
        if (!gathers) continue;
        float* const joined = gathered_ + i * steps_ * kAmxDepth;
        at.gather(tile, joined);
        rows[i] = joined;
      }
      kernels_.parts->split_rows(some);
      some.to += run_length * kBf16Parts * tile_rows_;
    }
    for (std::size_t i = 0; i < count; ++i) by_fma_[first + i] = !splits_well(largest[i]);
  }
}

void AmxProduct::multiply(GemmTile tile, std::size_t column) {
  next_ = {runs_, 0};
  row_ = 0;
  for (tile.start = 0; tile.start < products_; tile.start += tile.count) {
    tile.count = std::min(kGemmPart, products_ - tile.start);
    add_part(tile, column);
  }
}

// Its products to the sums of all rows; the last part's are finished while they are in L1.
void AmxProduct::add_part(const GemmTile& tile, std::size_t column) {
  const std::size_t width = kernels_.gemm->panel_width(tile.columns);
  const std::size_t steps = divide_up(tile.count, kAmxDepth);
  const std::size_t left_step = kBf16Parts * tile_rows_ * kAmxDepth;
  const bool first = tile.start == 0, last = tile.start + tile.count == products_;
  kernels_.parts->split_panel(tile.b + tile.start * width, tile.count, width, right_);
  // The same part of the panel that is next: it comes from L3 while products run, or they wait.
  const std::size_t part_bytes = tile.ahead_step > 0 ? tile.count * width * sizeof(float) : 0;
  const std::size_t each = align_up(part_bytes / (divide_up(row_tiles_, 2) * steps));
  const char* ahead = tile.ahead + tile.start * width * sizeof(float);
  for (std::size_t t = 0; t < row_tiles_; t += 2) {
    const std::size_t tiles = std::min<std::size_t>(2, row_tiles_ - t);
    const AmxBlock block{.a = left_ + (t * steps_ + tile.start / kAmxDepth) * left_step,
                         .a_tile = steps_ * left_step,
                         .b = right_,
                         .b_tile = steps * kAmxTileParts,
                         .steps = steps,
                         .rows = tile_rows_,
                         .c = sums_ + (first && last ? 0 : t * tile_rows_ * width),
                         .c_step = width,
                         .onto = !first,
                         .ahead = ahead + t / 2 * steps * each,
                         .ahead_step = each};
    kernels_.amx->multiply[tiles - 1][width / kAmxColumns - 1](block);
    if (last) finish(tile, column, std::min(tiles * tile_rows_, rows_ - row_), block.c);
  }
}

// To the GEMM kernels these are rows whose products have all been added up.
void AmxProduct::finish(const GemmTile& tile, std::size_t column, std::size_t rows, float* sums) {
  const std::size_t width = kernels_.gemm->panel_width(tile.columns);
  GemmTile summed = tile;
  summed.start = products_;
  summed.count = 0;
  summed.ahead_step = 0;
  for (const std::size_t end = row_ + rows; row_ < end;) {
    const std::size_t most = std::min(end - row_, next_.run->pixels - next_.pixel);
    const bool* next = by_fma_ + row_;
    std::size_t count = to_size(std::find(next, next + most, true) - next);
    if (count > 0) {
      next_.place(summed, column);
      summed.sums = sums;
      multiply_rows(*kernels_.gemm, summed, count);
    } else {
      multiply_by_fma(tile, column);
      count = 1;
    }
    sums += count * width;
    row_ += count;
    next_.advance(count);
  }
}

void AmxProduct::multiply_by_fma(GemmTile tile, std::size_t column) {
  tile.a = next_.run->taps;
  const std::size_t offset = tile.a_offset + next_.pixel * tile.a_step;
  for (tile.start = 0; tile.start < products_; tile.start += tile.count) {
    tile.count = std::min(kGemmPart, products_ - tile.start);
    tile.sums = products_ > tile.count ? gathered_ : nullptr;
    tile.a_offset = offset;
    next_.place(tile, column);
    multiply_rows(*kernels_.gemm, tile, 1);
  }
}

}  // namespace sepconv
