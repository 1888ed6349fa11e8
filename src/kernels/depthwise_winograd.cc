// Depthwise convolution, channels fastest, that trades products for additions: two neighbouring
// outputs of a row take four products for three taps instead of six, F(2, 3), and three for two
// taps instead of four, F(2, 2) (S. Winograd, "Arithmetic Complexity of Computations", 1980). A
// wider row of taps is cut into such pieces, which share their sums:
//
//      columns of input                   products                          outputs
//     ┌────┬────┬────┬────┐   three taps  m0 += (d2 − d0)·(−g0)             y0 = m0 + m1 + m2
//     │ d0 │ d1 │ d2 │ d3 │               m1 += (d1 + d2)·(g0 + g1 + g2)/2  y1 = m1 − m2 − m3
//     └────┴────┴────┴────┘               m2 += (d2 − d1)·(g0 − g1 + g2)/2
//       └── y0's ──┘                      m3 += (d1 − d3)·g2
//            └── y1's ──┘      two taps   m0 += (d0 − d1)·g0,  m1 += d1·(g0 + g1),
//                                         m3 += (d1 − d2)·g1
//
// What is added up before the products is so once for all output rows that meet the input row. The
// register tile is one vector of channels of R rows × P pairs of columns, 4·R·P sums, as these take
// 16 of AVX-512's registers with R = P = 2. For 7×7 an output then takes 35 FMAs, 18 additions and
// 27.5 loads instead of 49 FMAs: 0.9 flops of the convolution for a byte from L1. Where additions
// have units of their own, as on Zen 4, FMAs are the limit. The sums of an element take the rows
// from top to bottom, whatever R, and pairs of columns are the same whatever P.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise_winograd.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>

#include "kernels/depthwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

constexpr int kPairs = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 2 : 1;

// Values that three taps are multiplied with, from four columns.
template <int kProduct>
HWY_INLINE V spread_three(V d0, V d1, V d2, V d3) {
  if constexpr (kProduct == 0) return hn::Sub(d2, d0);
  if constexpr (kProduct == 1) return hn::Add(d1, d2);
  if constexpr (kProduct == 2) return hn::Sub(d2, d1);
  if constexpr (kProduct == 3) return hn::Sub(d1, d3);
}

// Those of two taps, from three, and the sums that they go into.
template <int kProduct>
HWY_INLINE V spread_two(V d0, V d1, V d2) {
  if constexpr (kProduct == 0) return hn::Sub(d0, d1);
  if constexpr (kProduct == 1) return d1;
  if constexpr (kProduct == 2) return hn::Sub(d1, d2);
}
constexpr int kSumOfTwo[] = {0, 1, 3};

HWY_ALIGN constexpr float kZeros[hn::MaxLanes(D())] = {};

// One row of input behind the window's column 0; columns outside the image are zeros.
template <bool kInside>
struct Row {
  const float* p;
  int64_t pixel, x, width;

  HWY_INLINE V load(int64_t column) const {
    if constexpr (kInside) return hn::LoadU(D(), p + column * pixel);
    // Without a branch: borders are much of a small image.
    const bool outside = static_cast<uint64_t>(x + column) >= static_cast<uint64_t>(width);
    return hn::LoadU(D(), in_register(outside ? kZeros : p + column * pixel));
  }
};

// Any window: R output rows of P pairs. kSize: its columns where that is known, or 0.
template <int kSize, int R, int P>
struct Tile {
  const DepthwiseRows& a;
  const float* HWY_RESTRICT weights;
  size_t row_weights;  ///< floats of a row of taps
  ShortFilters filters;
  int64_t x;  ///< where the first window begins
  V m[R][P][4];

  // One product of each pair, of taps from column kColumn of d on, into output rows [kFirst, kEnd),
  // of which kFirst has its weight at w.
  template <int kFirst, int kEnd, int kTaps, int kProduct, int kColumn, size_t N>
  HWY_INLINE void add(const V (&d)[N], const float* w) {
    constexpr int kSum = kTaps == 3 ? kProduct : kSumOfTwo[kProduct];
    V v[P];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const int c = kColumn + 2 * p;
      if constexpr (kTaps == 3) {
        v[p] = spread_three<kProduct>(d[c], d[c + 1], d[c + 2], d[c + 3]);
      } else {
        v[p] = spread_two<kProduct>(d[c], d[c + 1], d[c + 2]);
      }
    }
#pragma GCC unroll 2
    for (int o = kFirst; o < kEnd; ++o) {
      const size_t at = static_cast<size_t>(o - kFirst) * row_weights;
      const V weight = in_register(hn::Load(D(), w + kProduct * hn::Lanes(D()) - at));
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) m[o][p][kSum] = hn::MulAdd(v[p], weight, m[o][p][kSum]);
    }
  }

  template <int kFirst, int kEnd, int kTaps, int kColumn, size_t N>
  HWY_INLINE void add_piece(const V (&d)[N], const float* w) {
    add<kFirst, kEnd, kTaps, 0, kColumn>(d, w);
    add<kFirst, kEnd, kTaps, 1, kColumn>(d, w);
    add<kFirst, kEnd, kTaps, 2, kColumn>(d, w);
    if constexpr (kTaps == 3) add<kFirst, kEnd, kTaps, 3, kColumn>(d, w);
  }

  // The pieces from column kColumn of a window on, whose columns are all in registers.
  template <int kFirst, int kEnd, int kColumn, size_t N>
  HWY_INLINE void add_pieces(const V (&d)[N], const float* w) {
    if constexpr (kColumn < kSize) {
      constexpr int kTaps = kColumn < 3 * ShortFilters(kSize).threes ? 3 : 2;
      add_piece<kFirst, kEnd, kTaps, kColumn>(d, w);
      add_pieces<kFirst, kEnd, kColumn + kTaps>(d, w + (kTaps + 1) * hn::Lanes(D()));
    }
  }

  template <int kCount, bool kInside>
  static HWY_INLINE void load(const Row<kInside>& row, int64_t column, V (&d)[kCount]) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) d[i] = in_register(row.load(column + i));
  }

  template <int kFirst, int kEnd, bool kInside>
  HWY_INLINE void add_row(const float* in, int64_t ky) {
    if (!in) return;
    const float* HWY_RESTRICT w = weights + static_cast<size_t>(ky) * row_weights;
    const int64_t pixel = static_cast<int64_t>(a.in_pixel);
    const Row<kInside> row{in + x * pixel, pixel, x, a.in_width};
    if constexpr (kSize > 0) {
      V d[kSize + 2 * P - 1];
      load(row, 0, d);
      add_pieces<kFirst, kEnd, 0>(d, w);
    } else {
      int64_t column = 0;
      for (int64_t i = 0; i < filters.threes; ++i, column += 3, w += 4 * hn::Lanes(D())) {
        add_piece_at<kFirst, kEnd, 3>(row, column, w);
      }
      for (int64_t i = 0; i < filters.twos; ++i, column += 2, w += 3 * hn::Lanes(D())) {
        add_piece_at<kFirst, kEnd, 2>(row, column, w);
      }
    }
  }

  // A piece of which no column is inside the image is left out.
  template <int kFirst, int kEnd, int kTaps, bool kInside>
  HWY_INLINE void add_piece_at(const Row<kInside>& row, int64_t column, const float* w) {
    constexpr int kColumns = 2 * P + kTaps - 1;
    if (!kInside && (x + column + kColumns <= 0 || x + column >= row.width)) return;
    V d[kColumns];
    load(row, column, d);
    add_piece<kFirst, kEnd, kTaps, 0>(d, w);
  }

  template <bool kInside>
  HWY_INLINE void add_rows(size_t c) {
    const auto at = [&](int64_t i) { return a.in[i] ? a.in[i] + c : nullptr; };
    const int64_t size = a.rows.size;
    if constexpr (R == 1) {
      for (int64_t i = 0; i < size; ++i) add_row<0, 1, kInside>(at(i), i);
    } else {
      add_row<0, 1, kInside>(at(0), 0);
      for (int64_t i = 1; i < size; ++i) add_row<0, 2, kInside>(at(i), i);
      add_row<1, 2, kInside>(at(size), size - 1);
    }
  }

  HWY_INLINE void run(size_t c, V bias, int64_t j) {
    for (auto& row : m) {
      for (auto& pair : row) std::fill(pair, pair + 4, hn::Zero(D()));
    }
    const bool inside = x >= 0 && x + a.columns.size + 2 * P - 1 <= a.in_width;
    inside ? add_rows<true>(c) : add_rows<false>(c);
    const V lo = broadcast(&a.epilogue.lo), hi = broadcast(&a.epilogue.hi);
#pragma GCC unroll 2
    for (int o = 0; o < R; ++o) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const int64_t first = 2 * (j + p);
        if (first >= a.out_width) continue;
        const V(&sum)[4] = m[o][p];
        const V middle = hn::Add(sum[1], bias);
        float* const to = a.out[o] + static_cast<size_t>(first) * a.out_pixel + c;
        store(a, clamp(hn::Add(hn::Add(sum[0], sum[2]), middle), lo, hi), to);
        if (first + 1 >= a.out_width) continue;
        const V second = hn::Sub(hn::Sub(middle, sum[2]), sum[3]);
        store(a, clamp(second, lo, hi), to + a.out_pixel);
      }
    }
  }
};

template <int kSize, int R, int P>
HWY_INLINE void tile(const DepthwiseRows& a, size_t b, size_t c, int64_t j) {
  const size_t lanes = hn::Lanes(D());
  const ShortFilters filters(a.columns.size);
  const size_t row_weights = filters.products() * lanes;
  const float* const w = a.weights + b * row_weights * static_cast<size_t>(a.rows.size);
  const V bias = hn::Load(D(), a.bias + b * lanes);
  Tile<kSize, R, P>{a, w, row_weights, filters, 2 * j - a.columns.pad, {}}.run(c, bias, j);
}

template <int kSize, int R>
HWY_NOINLINE void run_blocks(const DepthwiseRows& args) {
  const DepthwiseRows a = args;  // the stores below might change what args refers to
  constexpr size_t kFloats = 2 * R * kPairs * hn::MaxLanes(D());
  const size_t lanes = hn::Lanes(D());
  const int64_t pairs = (a.out_width + 1) / 2;
  for (size_t b = a.first_block; b < a.end_block; ++b) {
    const size_t c = block_channel(b, a.channels, lanes);
    Ahead<(kFloats + kLineFloats - 1) / kLineFloats> ahead(a, b, pairs / kPairs);
    int64_t j = 0;
    for (; j + kPairs <= pairs; j += kPairs) {
      ahead.fetch();
      tile<kSize, R, kPairs>(a, b, c, j);
    }
    for (; j < pairs; ++j) tile<kSize, R, 1>(a, b, c, j);
    activate_block(a, c, R, lanes);
  }
  if (a.streams) hwy::FlushStream();
}

template <int R>
void rows(const DepthwiseRows& a) {
  a.columns.size == 7 ? run_blocks<7, R>(a) : run_blocks<0, R>(a);
}

const DepthwiseScheme& scheme() {
  static const DepthwiseScheme scheme = {"winograd", true, 2, {rows<1>, rows<2>}};
  return scheme;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace sepconv {
HWY_EXPORT(scheme);
const DepthwiseScheme& depthwise_winograd_scheme() {
  return dispatched(HWY_DISPATCH_TABLE(scheme))();
}
}  // namespace sepconv
#endif
