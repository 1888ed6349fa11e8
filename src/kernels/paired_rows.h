#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace sepconv {

/// The order of the products of a sum that adds them in pairs: T triples of k = i, T + i, 2·T + i,
/// of which the first two are a pair and the third is a single product, then the rest, single too.
/// T is even. Every second triple's first value is negated on both sides.
struct PairedOrder {
  std::size_t triples, singles;

  explicit PairedOrder(std::size_t products)
      : triples(products / 6 * 2), singles(products - 3 * triples) {}
  std::size_t products() const { return 3 * triples + singles; }
  /// The k of product n of a packed panel: triple by triple, then the rest.
  std::size_t k(std::size_t n) const { return n < 3 * triples ? n % 3 * triples + n / 3 : n; }
  /// Whether that is negated.
  bool negates(std::size_t n) const { return n < 3 * triples && n % 6 == 3; }
};

/// How rows lie that were prepared for products in pairs: in blocks of 16 triples,
/// [block][row][48], so that a tile's rows are so close that their addresses need one register. A
/// block of a row has its triples' first values, then the second ones, then the third ones; the
/// last one is followed by another, [row][16], of single products.
struct PairedRows {
  static constexpr std::size_t kBlock = 16, kBlockFloats = 3 * kBlock;

  PairedOrder order;
  std::size_t rows;
  std::size_t begin, end;  ///< which of a row's blocks are there

  static std::size_t blocks(const PairedOrder& order) {
    return (order.triples + kBlock - 1) / kBlock;
  }
  PairedRows(const PairedOrder& of, std::size_t count) : PairedRows(of, count, 0, blocks(of)) {}
  PairedRows(const PairedOrder& of, std::size_t count, std::size_t first, std::size_t last)
      : order(of), rows(count), begin(first), end(last) {}

  /// Whether the single products are there.
  bool has_singles() const { return order.singles > 0 && end == blocks(order); }
  std::size_t block_step() const { return rows * kBlockFloats; }
  std::size_t floats() const {
    return (end - begin) * block_step() + (has_singles() ? rows * kBlock : 0);
  }
  /// Where a row's block is, or at `end` its single products.
  std::size_t offset(std::size_t block, std::size_t row) const {
    return (block - begin) * block_step() + row * (block < end ? kBlockFloats : kBlock);
  }
};

/// A row whose products are added in pairs, and how.
enum class PairedKind : std::uint8_t {
  kPairs,
  kZeros,    ///< not at all: every value is zero
  kSingles,  ///< each for itself: values too large for pairs, or not finite
};

/// 2^exponent.
struct PowerOfTwo {
  int exponent;

  float value() const { return std::bit_cast<float>((127 + exponent) << 23); }
  float inverse() const { return std::bit_cast<float>((127 - exponent) << 23); }
};

/// What scales numbers whose mean square this is to a root mean square of 1 to 2: those of a pair
/// are to be of one size.
inline PowerOfTwo paired_scale(float square) {
  const int exponent = (std::bit_cast<std::int32_t>(square) >> 23) - 127;
  return {-(exponent >> 1)};
}
/// Whether that leaves every sum of theirs far from overflow and underflow.
inline constexpr float kLeastSquare = 0x1p-100F, kMostSquare = 0x1p100F;
constexpr bool fits_pairs(float square) { return square >= kLeastSquare && square <= kMostSquare; }

/// Most rows that are prepared in a call.
inline constexpr std::size_t kMostPrepared = 64;

/// Some rows to be prepared: scaled, and put where `to` has them. What is said of whole rows is
/// found with their first blocks and there when others follow.
struct PairedPreparation {
  const float* const* row;
  std::size_t first, count;  ///< among the rows of `to`
  PairedRows to;
  const float* scale;  ///< by k: what rows are multiplied by before; or null
  float* prepared;     ///< to.floats(); blocks of kSingles have a packed panel's order
  float* start;        ///< by row of `to`: minus the pairs' products with each other
  float* unscale;      ///< by row: the inverse of its scale
  PairedKind* kind;    ///< by row
};

using PreparePairedRows = void (*)(const PairedPreparation&);

PreparePairedRows prepare_paired_rows();

}  // namespace sepconv
