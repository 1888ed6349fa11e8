// The AMX microkernel, over a set of tile instructions: the processor's, or an emulation of them.
//
//   C, tiles 0 to 3:      B0 (6)   B1 (7)      16 columns each
//            A0 (4)         0        1         16 rows × 32 values of k, one part of each
//            A1 (5)         2        3
//
// Per 32 values of k six products of parts, the smallest first: a3·b1, a2·b1, a2·b2, a1·b2, a1·b3,
// a1·b1. Every pair of tiles that is loaded serves two products or four: 24 products of 16 cycles
// for 14 loads of 8, so that products, not loads, are the limit. Flops per byte of tiles read:
// 24 · 16384 / (14 · 1024) = 27; the six products of parts are one of float32, so that a sixth of
// these flops are float32's.

#pragma once

#include "kernels/amx.h"

namespace sepconv {

template <class Tiles, int kRowTiles, int kColumnTiles>
class AmxMicrokernel {
 public:
  static void multiply(const AmxBlock& t) {
    start(t);
    const std::size_t a_part = t.rows * kAmxDepth, b_part = kAmxTileParts / kBf16Parts;
    const std::uint16_t *a = t.a, *b = t.b;
    for (std::size_t s = 0; s < t.steps; ++s, a += kBf16Parts * a_part, b += kAmxTileParts) {
      load_a(t, a + 2 * a_part);
      load_b(t, b);
      add_products();
      prefetch(t, s);
      load_a(t, a + a_part);
      add_products();
      load_b(t, b + b_part);
      add_products();
      load_a(t, a);
      add_products();
      load_b(t, b + 2 * b_part);
      add_products();
      load_b(t, b);
      add_products();
    }
    store(t);
  }

 private:
  static constexpr std::size_t kRowBytes = 64, kLine = 64;

  static float* corner(const AmxBlock& t, std::size_t row_tile, std::size_t column_tile) {
    return t.c + row_tile * t.rows * t.c_step + column_tile * kAmxColumns;
  }

  static void start(const AmxBlock& t) {
    start_tile<0>(t, corner(t, 0, 0));
    if constexpr (kColumnTiles > 1) start_tile<1>(t, corner(t, 0, 1));
    if constexpr (kRowTiles > 1) start_tile<2>(t, corner(t, 1, 0));
    if constexpr (kRowTiles > 1 && kColumnTiles > 1) start_tile<3>(t, corner(t, 1, 1));
  }

  template <int kTile>
  static void start_tile(const AmxBlock& t, const float* c) {
    if (t.onto) {
      Tiles::template load<kTile>(c, t.c_step * sizeof(float));
    } else {
      Tiles::template zero<kTile>();
    }
  }

  static void prefetch(const AmxBlock& t, std::size_t step) {
    const char* line = t.ahead + step * t.ahead_step;
    for (const char* end = line + t.ahead_step; line < end; line += kLine) {
      __builtin_prefetch(line, 0, 2);
    }
  }

  static void load_a(const AmxBlock& t, const std::uint16_t* a) {
    Tiles::template load<4>(a, kRowBytes);
    if constexpr (kRowTiles > 1) Tiles::template load<5>(a + t.a_tile, kRowBytes);
  }

  static void load_b(const AmxBlock& t, const std::uint16_t* b) {
    Tiles::template load<6>(b, kRowBytes);
    if constexpr (kColumnTiles > 1) Tiles::template load<7>(b + t.b_tile, kRowBytes);
  }

  static void add_products() {
    Tiles::template multiply_add<0, 4, 6>();
    if constexpr (kColumnTiles > 1) Tiles::template multiply_add<1, 4, 7>();
    if constexpr (kRowTiles > 1) Tiles::template multiply_add<2, 5, 6>();
    if constexpr (kRowTiles > 1 && kColumnTiles > 1) Tiles::template multiply_add<3, 5, 7>();
  }

  static void store(const AmxBlock& t) {
    const std::size_t step = t.c_step * sizeof(float);
    Tiles::template store<0>(corner(t, 0, 0), step);
    if constexpr (kColumnTiles > 1) Tiles::template store<1>(corner(t, 0, 1), step);
    if constexpr (kRowTiles > 1) Tiles::template store<2>(corner(t, 1, 0), step);
    if constexpr (kRowTiles > 1 && kColumnTiles > 1) {
      Tiles::template store<3>(corner(t, 1, 1), step);
    }
  }
};

/// `Tiles` has configure(rows) and release(), and for tiles by their number: zero, load(from, bytes
/// from row to row), store, multiply_add<C, A, B> (TDPBF16PS in Intel's manual).
template <class Tiles>
constexpr AmxKernels amx_kernels_on(AmxCosts costs) {
  return {Tiles::configure,
          Tiles::release,
          {{AmxMicrokernel<Tiles, 1, 1>::multiply, AmxMicrokernel<Tiles, 1, 2>::multiply},
           {AmxMicrokernel<Tiles, 2, 1>::multiply, AmxMicrokernel<Tiles, 2, 2>::multiply}},
          costs};
}

}  // namespace sepconv
