#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "kernels/amx-inl.h"

namespace sepconv::testing {

/// The tile instructions as the operation sections of Intel's manual (volume 2) give them, so that
/// what is built on them is tested on processors without them.
struct EmulatedTiles {
  struct Tile {
    std::size_t rows = 0, row_bytes = 0;
    alignas(64) std::array<std::array<std::uint8_t, 64>, 16> row{};
  };

  static void configure(std::size_t rows) {
    for (int i = 0; i < 8; ++i) tile(i) = {i < 6 ? rows : kAmxDepth / 2, 64, {}};
  }
  static void release() {
    for (int i = 0; i < 8; ++i) tile(i) = {};
  }

  template <int kTile>
  static void zero() {
    configured(kTile).row = {};
  }
  template <int kTile>
  static void load(const void* from, std::size_t step) {
    Tile& t = configured(kTile);
    t.row = {};
    for (std::size_t i = 0; i < t.rows; ++i) {
      std::memcpy(t.row[i].data(), static_cast<const std::uint8_t*>(from) + i * step, t.row_bytes);
    }
  }
  template <int kTile>
  static void store(void* to, std::size_t step) {
    const Tile& t = configured(kTile);
    for (std::size_t i = 0; i < t.rows; ++i) {
      std::memcpy(static_cast<std::uint8_t*>(to) + i * step, t.row[i].data(), t.row_bytes);
    }
  }
  // TDPBF16PS: even and odd values add up apart, then join, then are added to C. Denormals are
  // taken as zero and made zero. Products of bf16 numbers are exact, so that one multiplied, then
  // added, is the manual's fused operation (but for products that are denormal).
  template <int kC, int kA, int kB>
  static void multiply_add() {
    Tile& c = configured(kC);
    const Tile &a = configured(kA), &b = configured(kB);
    if (a.row_bytes / 4 != b.rows || a.rows != c.rows) throw std::logic_error("tiles do not fit");
    const Values left = values(a), right = values(b);
    for (std::size_t m = 0; m < c.rows; ++m) {
      float even[16] = {}, odd[16] = {};
      for (std::size_t k = 0; k < b.rows; ++k) {
        for (std::size_t n = 0; n < 16; ++n) {
          even[n] = flushed(left.even[m][k] * right.even[k][n] + even[n]);
          odd[n] = flushed(left.odd[m][k] * right.odd[k][n] + odd[n]);
        }
      }
      std::array<float, 16> sums{};
      std::memcpy(sums.data(), c.row[m].data(), 64);
      for (std::size_t n = 0; n < 16; ++n) {
        sums[n] = flushed(flushed(sums[n]) + flushed(even[n] + odd[n]));
      }
      std::memcpy(c.row[m].data(), sums.data(), 64);
    }
  }

 private:
  // Each thread has its own.
  static Tile& tile(int i) {
    thread_local std::array<Tile, 8> tiles;
    return tiles[static_cast<std::size_t>(i)];
  }
  static Tile& configured(int i) {
    if (tile(i).rows == 0) throw std::logic_error("a tile is used before it is configured");
    return tile(i);
  }
  static float flushed(float v) {
    return std::abs(v) < std::numeric_limits<float>::min() ? std::copysign(0.0F, v) : v;
  }
  // A tile's bf16 numbers, those in even and in odd places.
  struct Values {
    float even[16][16], odd[16][16];
  };
  static Values values(const Tile& t) {
    Values v;
    for (std::size_t i = 0; i < 16; ++i) {
      for (std::size_t k = 0; k < 16; ++k) {
        std::uint32_t pair = 0;
        std::memcpy(&pair, t.row[i].data() + 4 * k, sizeof(pair));
        v.even[i][k] = flushed(std::bit_cast<float>(pair << 16));
        v.odd[i][k] = flushed(std::bit_cast<float>(pair & 0xFFFF0000));
      }
    }
    return v;
  }
};

/// They cost nothing, so that whatever can run on AMX does.
inline constexpr AmxKernels kEmulatedAmx = amx_kernels_on<EmulatedTiles>({0, 0, 0});

}  // namespace sepconv::testing
