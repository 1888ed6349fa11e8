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
// register tile is one vector of channels of R rows × P pairs of columns, 4·R·P sums. For 3×3, with
// all 12 weights in registers and R = 4, P = 1, an output takes 6 FMAs, 5 additions and 3 loads
// instead of 9 FMAs, for 7×7, R = P = 2, 35 FMAs, 18 additions and 27.5 loads instead of 49: 1.5
// and 0.9 flops of the convolution for a byte from L1. Where additions have units of their own, as
// on Zen 4, FMAs are the limit. The sums of an element take the rows from top to bottom, whatever
// R, and pairs of columns are the same whatever P.

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

// How a pair of outputs ends. As units for additions are busy then, others do some of them.
template <bool kClamps, bool kStreams>
struct Ending {
  const DepthwiseRows& a;

  HWY_INLINE V limited(V v) const {
    return kClamps ? clamp(v, broadcast(&a.epilogue.lo), broadcast(&a.epilogue.hi)) : v;
  }
  HWY_INLINE void operator()(const V (&m)[4], V m1, float* out, bool both) const {
    const V one = hn::Set(D(), 1.0F);
    store<kStreams>(limited(hn::MulAdd(one, m1, hn::Add(m[0], m[2]))), out);
    if (both) {
      store<kStreams>(limited(hn::Sub(hn::Sub(m1, m[2]), m[3])), out + a.out_pixel);
    }
  }
};

// 3×3: R output rows of one pair of columns.
template <int R, bool kBorder, bool kClamps>
struct Square3 {
  static constexpr int kInputRows = R + 2;
  static constexpr size_t kLines = (2 * R * hn::MaxLanes(D()) + kLineFloats - 1) / kLineFloats;

  V weight[12];

  HWY_INLINE explicit Square3(const float* HWY_RESTRICT w) {
    for (size_t t = 0; t < 12; ++t) {
      weight[t] = in_register(hn::Load(D(), w + t * hn::Lanes(D())));
    }
  }

  template <int kProduct>
  HWY_INLINE void add(V v, int i, V (&m)[R][4]) const {
#pragma GCC unroll 4
    for (int o = 0; o < R; ++o) {
      if (i < o || i > o + 2) continue;
      m[o][kProduct] = hn::MulAdd(v, weight[(i - o) * 4 + kProduct], m[o][kProduct]);
    }
  }

  template <bool kInside>
  HWY_INLINE void add_row(const Row<kInside>& row, int i, V (&m)[R][4]) const {
    const V d1 = in_register(row.load(1)), d2 = in_register(row.load(2));
    const V d0 = row.load(0), d3 = row.load(3);
    add<0>(spread_three<0>(d0, d1, d2, d3), i, m);
    add<1>(spread_three<1>(d0, d1, d2, d3), i, m);
    add<2>(spread_three<2>(d0, d1, d2, d3), i, m);
    add<3>(spread_three<3>(d0, d1, d2, d3), i, m);
  }

  template <bool kInside, bool kStreams>
  HWY_INLINE void pair(const DepthwiseRows& a, const float* const (&in)[kInputRows],
                       float* const (&out)[R], int64_t j, const float* bias) const {
    const int64_t x = 2 * j - a.columns.pad, pixel = static_cast<int64_t>(a.in_pixel);
    V m[R][4];
    for (int o = 0; o < R; ++o) {
      m[o][0] = m[o][2] = m[o][3] = hn::Zero(D());
      m[o][1] = hn::Load(D(), bias);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kInputRows; ++i) {
      if (!kBorder || in[i]) {
        add_row<kInside>({in_register(in[i] + x * pixel), pixel, x, a.in_width}, i, m);
      }
      if (i < 2) continue;
      const int o = i - 2;
      const Ending<kClamps, kStreams> end{a};
      end(m[o], m[o][1], out[o] + static_cast<size_t>(2 * j) * a.out_pixel,
          kInside || 2 * j + 1 < a.out_width);
    }
  }

  HWY_INLINE void block(const DepthwiseRows& a, const float* const (&in)[kInputRows],
                        float* const (&out)[R], size_t b) const {
    const int64_t pairs = (a.out_width + 1) / 2;
    const float* const bias = a.bias + b * hn::Lanes(D());
    Ahead<kLines> ahead(a, b, pairs);
    const int64_t left = HWY_MIN(pairs, HWY_MAX(int64_t{0}, (a.columns.pad + 1) / 2));
    const int64_t fit = HWY_MIN(a.out_width, a.in_width + a.columns.pad - 2);  // whole windows
    const int64_t right = HWY_MAX(left, fit / 2);
    const auto some = [&]<bool kInside, bool kStreams>(int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t j = begin; j < end; ++j) {
        ahead.fetch();
        pair<kInside, kStreams>(a, in, out, j, bias);
      }
    };
    some.template operator()<false, false>(0, left);
    if (a.streams) {
      some.template operator()<true, true>(left, right);
    } else {
      some.template operator()<true, false>(left, right);
    }
    some.template operator()<false, false>(right, pairs);
  }

  static HWY_INLINE void run(const DepthwiseRows& a, size_t b, size_t c) {
    const size_t lanes = hn::Lanes(D());
    const float* in[kInputRows];
    for (int i = 0; i < kInputRows; ++i) in[i] = a.in[i] ? a.in[i] + c : nullptr;
    float* out[R];
    for (int o = 0; o < R; ++o) out[o] = a.out[o] + c;
    const Square3 square(a.weights + b * 12 * lanes);
    square.block(a, in, out, b);
  }
};

// Any window: R output rows of P pairs. kSize: its columns where that is known, or 0.
template <int kSize, int R, int P, bool kClamps>
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
#pragma GCC unroll 2
    for (int o = 0; o < R; ++o) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const int64_t first = 2 * (j + p);
        if (first >= a.out_width) continue;
        float* const to = a.out[o] + static_cast<size_t>(first) * a.out_pixel + c;
        const V middle = hn::MulAdd(hn::Set(D(), 1.0F), m[o][p][1], bias);
        const bool both = first + 1 < a.out_width;
        if (a.streams) {
          Ending<kClamps, true>{a}(m[o][p], middle, to, both);
        } else {
          Ending<kClamps, false>{a}(m[o][p], middle, to, both);
        }
      }
    }
  }
};

template <int kSize, int R, bool kClamps>
struct Any {
  template <int P>
  static HWY_INLINE void tile(const DepthwiseRows& a, size_t b, size_t c, int64_t j) {
    const size_t lanes = hn::Lanes(D());
    const ShortFilters filters(a.columns.size);
    const size_t row_weights = filters.products() * lanes;
    const float* const w = a.weights + b * row_weights * static_cast<size_t>(a.rows.size);
    const V bias = hn::Load(D(), a.bias + b * lanes);
    Tile<kSize, R, P, kClamps>{a, w, row_weights, filters, 2 * j - a.columns.pad, {}}.run(c, bias,
                                                                                          j);
  }

  static HWY_INLINE void run(const DepthwiseRows& a, size_t b, size_t c) {
    constexpr size_t kFloats = 2 * R * kPairs * hn::MaxLanes(D());
    const int64_t pairs = (a.out_width + 1) / 2;
    Ahead<(kFloats + kLineFloats - 1) / kLineFloats> ahead(a, b, pairs / kPairs);
    int64_t j = 0;
    for (; j + kPairs <= pairs; j += kPairs) {
      ahead.fetch();
      tile<kPairs>(a, b, c, j);
    }
    for (; j < pairs; ++j) tile<1>(a, b, c, j);
  }
};

template <int R, class Blocks>
HWY_NOINLINE void run_blocks(const DepthwiseRows& args) {
  const DepthwiseRows a = args;  // the stores below might change what args refers to
  const size_t lanes = hn::Lanes(D());
  for (size_t b = a.first_block; b < a.end_block; ++b) {
    const size_t c = block_channel(b, a.channels, lanes);
    Blocks::run(a, b, c);
    activate_block(a, c, R, lanes);
  }
  if (a.streams) hwy::FlushStream();
}

template <int R, bool kBorder>
void square3(const DepthwiseRows& a) {
  a.epilogue.clamps() ? run_blocks<R, Square3<R, kBorder, true>>(a)
                      : run_blocks<R, Square3<R, kBorder, false>>(a);
}

template <int R>
void square3_rows(const DepthwiseRows& a) {
  const bool border = std::find(a.in, a.in + R + 2, nullptr) != a.in + R + 2;
  border ? square3<R, true>(a) : square3<R, false>(a);
}

template <int kSize, int R>
void sized_rows(const DepthwiseRows& a) {
  a.epilogue.clamps() ? run_blocks<R, Any<kSize, R, true>>(a)
                      : run_blocks<R, Any<kSize, R, false>>(a);
}

template <int R>
void any_rows(const DepthwiseRows& a) {
  a.columns.size == 7 ? sized_rows<7, R>(a) : sized_rows<0, R>(a);
}

const DepthwiseWinogradKernels& kernels() {
  constexpr DepthwiseScheme kAny = {2, {any_rows<1>, any_rows<2>}};
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
  constexpr DepthwiseScheme kSquare3 = {
      4, {square3_rows<1>, square3_rows<2>, square3_rows<3>, square3_rows<4>}};
#else
  constexpr DepthwiseScheme kSquare3 = kAny;  // twelve weights would leave no register for sums
#endif
  static const DepthwiseWinogradKernels table = {hn::Lanes(D()), kAny, kSquare3};
  return table;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace sepconv {
HWY_EXPORT(kernels);
const DepthwiseWinogradKernels& depthwise_winograd_kernels() {
  return dispatched(HWY_DISPATCH_TABLE(kernels))();
}
}  // namespace sepconv
#endif
