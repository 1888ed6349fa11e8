#pragma once

#include <cstddef>
#include <cstdint>

namespace sepconv {

/// A float as the exact sum of three bf16 numbers, its parts: each takes the next eight bits of the
/// significand, cut off, so that subtracting what was taken rounds nothing.
///
/// Of the nine products of two floats' parts six are added up; the three that are left out come to
/// less than 2^-20 of the whole.
constexpr std::size_t kBf16Parts = 3;

/// What AMX multiplies at once: 16 rows of 32 values by 32 rows of 16 columns.
constexpr std::size_t kAmxRows = 16, kAmxDepth = 32, kAmxColumns = 16;

/// 16-bit numbers in the parts of one tile of the right side.
constexpr std::size_t kAmxTileParts = kBf16Parts * kAmxDepth * kAmxColumns;

/// Whether values whose largest magnitude has these bits (its sign bit is clear) may be split: AMX
/// makes NaN of an infinity's parts and zero of a part below 2^-126.
constexpr bool splits_well(std::uint32_t largest) {
  constexpr std::uint32_t kLeast = (127u - 100u) << 23, kInfinity = 255u << 23;
  return largest == 0 || (largest >= kLeast && largest < kInfinity);
}

/// The rows of a tile of the left side, or of one with fewer rows.
struct Bf16Rows {
  const float* const* row;
  std::size_t rows, count;
  std::uint16_t* to;      ///< [count / 32, rounded up][part][tile_rows][32]; zeros after the values
  std::size_t tile_rows;  ///< at least `rows`
  std::uint32_t* largest;  ///< by row: raised to the bits of the largest magnitude; NaN's are the
                           ///< largest of all
};

struct Bf16PartsKernels {
  void (*split_rows)(const Bf16Rows&);
  /// A panel as the GEMM kernels pack it, [count][width], width one or two tiles' columns, as the
  /// right side's tiles: [tile][count / 32, rounded up][part][pair of values][column][2].
  void (*split_panel)(const float* panel, std::size_t count, std::size_t width, std::uint16_t* to);
  /// By column of such a panel, the bits of the largest magnitude.
  void (*largest_of_columns)(const float* panel, std::size_t count, std::size_t width,
                             std::uint32_t* to);
};

const Bf16PartsKernels& bf16_parts_kernels();

}  // namespace sepconv
