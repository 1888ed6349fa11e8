// Depthwise convolution, channels fastest. One vector of channels at a time slides along the row:
//
//        window of output j                     pending sums of one output row (size 3, stride 1)
//      x0    x1    x2    x3 …                   s0: output j,   complete after column x2
//     ┌─────┬─────┬─────┐                       s1: output j+1, has x1, x2
//     │ w00 │ w01 │ w02 │  ← input rows         s2: output j+2, has x2
//     │ w10 │ w11 │ w12 │
//     │ w20 │ w21 │ w22 │
//     └─────┴─────┴─────┘
//
// A new column of input is loaded once and added into every sum that it belongs to, of R output
// rows at a time. Per output element: K·K FMAs for ((R−1)·S+K)·S/R loads; for 3×3 stride 1 and
// three rows 9 FMAs for 1.7 loads: 18 flops for 6.7 bytes of input and 4 of output, 1.7 flops per
// byte, so that the cache, not FMA, limits small kernels. The sum of one element takes columns from
// left to right and, within a column, rows from top to bottom, then the bias (first, it would make
// every addition round at its own size), whatever R: splitting rows differently changes no bit.
//
// Groups of a few channels, as many of input as of output, go the same way once for each channel of
// a group: spread over its group's lanes it meets the weights that the group's outputs have for it,
// K·K·R FMAs for (R−1)·S+K permutations. In a column the group's channels come one after the other,
// in each the rows.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise_nhwc.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <utility>

#include "kernels/depthwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

// Output rows that are computed together: enough chains of additions to hide FMA's latency, few
// enough that the sums stay in registers.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kRegisters = 32;
constexpr int kBand3 = 4, kBand5 = 4, kBand7 = 2;
constexpr int kBand3Stride2 = 4, kBand5Stride2 = 4;
constexpr int kBand = 3, kPixels = 8, kPixelsOfBand = 7;
#else
constexpr int kRegisters = 16;
constexpr int kBand3 = 3, kBand5 = 2, kBand7 = 2;
constexpr int kBand3Stride2 = 2, kBand5Stride2 = 2;
constexpr int kBand = 3, kPixels = 8, kPixelsOfBand = 4;
#endif

// Channel `of_group` of every group of a vector, in all lanes of its group.
class Spread {
 public:
  HWY_INLINE Spread(size_t group, size_t of_group)
      : from_(hn::IndicesFromVec(D(), hn::Add(first_of_group(group), number(of_group)))) {}
  HWY_INLINE V operator()(V v) const { return hn::TableLookupLanes(v, from_); }

 private:
  using DI = hn::RebindToSigned<D>;
  static HWY_INLINE hn::Vec<DI> number(size_t n) { return hn::Set(DI(), static_cast<int32_t>(n)); }
  static HWY_INLINE hn::Vec<DI> first_of_group(size_t group) {
    return hn::AndNot(number(group - 1), hn::Iota(DI(), 0));
  }
  decltype(hn::IndicesFromVec(D(), hn::Zero(DI()))) from_;
};

// R output rows of a K×K window with stride S. kBorder: some input rows are missing (null). kTurns:
// sums stay in their registers for kPending outputs, by turns the next to be complete, instead of
// all moving down after each output, as copies of registers are not free on every processor.
template <int K, int S, int R, bool kBorder, bool kGrouped, bool kTurns>
struct Slide {
  static constexpr int kInputRows = (R - 1) * S + K;
  static constexpr int kPending = (K - 1) / S + 1;
  // What stays in registers beside the sums: all weights, where they fit with some elements of the
  // input, each loaded once for a whole row of outputs; or else a column of input, so that each
  // weight is loaded once for all R rows; or else neither.
  static constexpr bool kHoldsWeights =
      !kGrouped && K == 3 && R * kPending + K * K + 2 * R + 3 <= kRegisters;
  // A missing row is left out, or, where it is one of few, taken as zeros, which costs less.
  static constexpr bool kZeroRows = K == 3;
  // Lines of input that an output's rows take up, as the window moves on.
  static constexpr size_t kLines = (R * S * S * hn::MaxLanes(D()) + kLineFloats - 1) / kLineFloats;
  static constexpr bool kHoldsColumn = !kHoldsWeights && R > 1 && (!kBorder || kZeroRows) &&
                                       kInputRows + R* kPending + 1 <= kRegisters;

  V sum[R][kPending];
  V kept[kHoldsWeights ? K * K : 1];

  HWY_INLINE explicit Slide(const float* HWY_RESTRICT w) {
    for (int o = 0; o < R; ++o) {
      for (int q = 0; q < kPending; ++q) sum[o][q] = hn::Zero(D());
    }
    for (int t = 0; kHoldsWeights && t < K * K; ++t) kept[t] = in_register(load_weight(w, t));
  }

  static HWY_INLINE V load_weight(const float* HWY_RESTRICT w, int tap) {
    return hn::Load(D(), w + static_cast<size_t>(tap) * hn::Lanes(D()));
  }

  // x · w into the sum of output row o that is the q-th to be complete, kTurn outputs further on.
  // kAnew: the window's first product begins a sum, which is then not cleared.
  template <int kTurn, bool kAnew>
  HWY_INLINE void add_product(int o, int q, int ky, int kx, V x, V weight) {
    V& to = sum[o][(q + kTurn) % kPending];
    to = kAnew && ky == 0 && kx == 0 ? hn::Mul(x, weight) : hn::MulAdd(x, weight, to);
  }

  // Adds input element v, row i and column C of output 0's window, into the sums it belongs to.
  template <int C, int kTurn, bool kAnew>
  HWY_INLINE void add(V v, int i, const float* HWY_RESTRICT w) {
#pragma GCC unroll 8
    for (int o = 0; o < R; ++o) {
      const int ky = i - o * S;
      if (ky < 0 || ky >= K) continue;
#pragma GCC unroll 8
      for (int q = 0; q < kPending; ++q) {
        const int kx = C - S * q;
        if (kx < 0) continue;
        const int tap = ky * K + kx;
        const V weight = kHoldsWeights ? kept[tap] : load_weight(w, tap);
        add_product<kTurn, kAnew>(o, q, ky, kx, v, weight);
      }
    }
  }

  // The same for a whole column in registers.
  template <int C, int kTurn, bool kAnew>
  HWY_INLINE void add_column(const V (&x)[kInputRows], const float* HWY_RESTRICT w) {
#pragma GCC unroll 8
    for (int ky = 0; ky < K; ++ky) {
#pragma GCC unroll 8
      for (int q = 0; q < kPending; ++q) {
        const int kx = C - S * q;
        if (kx < 0) continue;
        const V weight = in_register(load_weight(w, ky * K + kx));
#pragma GCC unroll 8
        for (int o = 0; o < R; ++o) {
          add_product<kTurn, kAnew>(o, q, ky, kx, x[o * S + ky], weight);
        }
      }
    }
  }

  // A whole column at float offset `at` of every row.
  template <int C, int kTurn, bool kAnew>
  HWY_INLINE void column(const float* const (&in)[kInputRows], size_t at, size_t group,
                         const float* HWY_RESTRICT w) {
    const D d;
    if constexpr (kGrouped) {
      for (size_t c = 0; c < group; ++c, w += K * K * hn::Lanes(d)) {
        const Spread spread(group, c);
        V x[kInputRows];
#pragma GCC unroll 16
        for (int i = 0; i < kInputRows; ++i) {
          x[i] = !kBorder || in[i] ? spread(hn::LoadU(d, in[i] + at)) : hn::Zero(d);
        }
        add_column<C, kTurn, kAnew>(x, w);
      }
    } else if constexpr (kHoldsColumn) {
      V x[kInputRows];
#pragma GCC unroll 16
      for (int i = 0; i < kInputRows; ++i) {
        x[i] = !kBorder || in[i] ? hn::LoadU(d, in[i] + at) : hn::Zero(d);
      }
      add_column<C, kTurn, kAnew>(x, w);
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < kInputRows; ++i) {
        if (!kBorder || in[i]) {
          add<C, kTurn, kAnew>(in_register(hn::LoadU(d, in[i] + at)), i, w);
        } else if (kZeroRows) {
          add<C, kTurn, kAnew>(hn::Zero(d), i, w);
        }
      }
    }
  }

  // The columns [kFirst, kFirst + kCount) of the window whose column 0 is input column x.
  template <int kFirst, int kCount, bool kInside, int kTurn = 0, bool kAnew = false>
  HWY_INLINE void columns(const float* const (&in)[kInputRows], int64_t x, const DepthwiseRows& a,
                          const float* HWY_RESTRICT w) {
    if constexpr (kCount > 0) {
      const int64_t at = x + kFirst;
      if (kInside || (at >= 0 && at < a.in_width)) {
        column<kFirst, kTurn, kAnew>(in, static_cast<size_t>(at) * a.in_pixel, a.group, w);
      }
      columns<kFirst + 1, kCount - 1, kInside, kTurn, kAnew>(in, x, a, w);
    }
  }

  struct Finish {
    V bias, lo, hi;
    bool clamps;
  };

  template <int kTurn>
  HWY_INLINE void finish(const DepthwiseRows& a, float* const (&out)[R], int64_t j,
                         const Finish& f) {
    for (int o = 0; o < R; ++o) {
      V v = hn::Add(sum[o][kTurn], f.bias);
      if (f.clamps) v = clamp(v, f.lo, f.hi);
      store(a, v, out[o] + static_cast<size_t>(j) * a.out_pixel);
    }
  }

  HWY_INLINE void advance() {
    for (int o = 0; o < R; ++o) {
      for (int q = 0; q + 1 < kPending; ++q) sum[o][q] = sum[o][q + 1];
      sum[o][kPending - 1] = hn::Zero(D());
    }
  }

  // Outputs j … j + kPending - 1, after which every sum is where it was.
  template <int kTurn>
  HWY_INLINE void turn(const float* const (&in)[kInputRows], float* const (&out)[R], int64_t j,
                       const DepthwiseRows& a, const float* HWY_RESTRICT w, const Finish& f,
                       Ahead<kLines>& ahead) {
    if constexpr (kTurn < kPending) {
      constexpr bool kAnew = !kGrouped && (!kBorder || kZeroRows);
      ahead.fetch();
      columns<K - S, S, true, kTurn, kAnew>(in, j * S - a.columns.pad, a, w);
      finish<kTurn>(a, out, j, f);
      for (int o = 0; o < R && !kAnew; ++o) sum[o][kTurn] = hn::Zero(D());
      turn<kTurn + 1>(in, out, j + 1, a, w, f, ahead);
    }
  }

  template <bool kInside>
  static HWY_INLINE void outputs(Slide& slide, const float* const (&in)[kInputRows],
                                 float* const (&out)[R], int64_t begin, int64_t end,
                                 const DepthwiseRows& a, const float* HWY_RESTRICT w, V bias,
                                 Ahead<kLines>& ahead) {
    const Finish f{bias, broadcast(&a.epilogue.lo), broadcast(&a.epilogue.hi), a.epilogue.clamps()};
    int64_t j = begin;
    if constexpr (kTurns && kInside) {
      for (; end - j >= kPending; j += kPending) slide.template turn<0>(in, out, j, a, w, f, ahead);
      for (int o = 0; o < R; ++o) slide.sum[o][kPending - 1] = hn::Zero(D());
    }
    for (; j < end; ++j) {
      ahead.fetch();
      slide.template columns<K - S, S, kInside>(in, j * S - a.columns.pad, a, w);
      slide.template finish<0>(a, out, j, f);
      slide.advance();
    }
  }

  static HWY_INLINE void block(const DepthwiseRows& a, size_t b) {
    const D d;
    const size_t lanes = hn::Lanes(d), c = block_channel(b, a.channels, lanes);
    const float* HWY_RESTRICT w = a.weights + b * (kGrouped ? a.group : 1) * K * K * lanes;
    const V bias = hn::Load(d, a.bias + b * lanes);
    Ahead<kLines> ahead(a, b, a.out_width);
    const float* in[kInputRows];
    for (int i = 0; i < kInputRows; ++i) in[i] = a.in[i] ? a.in[i] + c : nullptr;
    float* out[R];
    for (int o = 0; o < R; ++o) out[o] = a.out[o] + c;
    // Outputs in [left, right) find all their new columns inside the row.
    const int64_t pad = a.columns.pad;
    const int64_t left = HWY_MIN(a.out_width, HWY_MAX(int64_t{0}, (pad - (K - S) + S - 1) / S));
    const int64_t fit = a.in_width + pad - K;
    const int64_t right = HWY_MAX(left, HWY_MIN(a.out_width, fit < 0 ? int64_t{0} : fit / S + 1));
    Slide slide(w);
    slide.template columns<0, K - S, false>(in, -pad, a, w);
    outputs<false>(slide, in, out, 0, left, a, w, bias, ahead);
    outputs<true>(slide, in, out, left, right, a, w, bias, ahead);
    outputs<false>(slide, in, out, right, a.out_width, a, w, bias, ahead);
  }
};

template <int K, int S, int R, bool kBorder, bool kGrouped, bool kTurns>
HWY_NOINLINE void slide_blocks(const DepthwiseRows& args) {
  const DepthwiseRows a = args;  // the stores below might change what args refers to
  const D d;
  const size_t lanes = hn::Lanes(d);
  for (size_t b = a.first_block; b < a.end_block; ++b) {
    Slide<K, S, R, kBorder, kGrouped, kTurns>::block(a, b);
    activate_block(a, block_channel(b, a.channels, lanes), R, lanes);
  }
  if (a.streams) hwy::FlushStream();
}

template <int K, int S, int R, bool kGrouped, bool kTurns>
void slide_rows(const DepthwiseRows& a) {
  const auto missing = [](const float* row) { return row == nullptr; };
  const bool border = std::any_of(a.in, a.in + (R - 1) * S + K, missing);
  border ? slide_blocks<K, S, R, true, kGrouped, kTurns>(a)
         : slide_blocks<K, S, R, false, kGrouped, kTurns>(a);
}

// Any window, R output rows of J pixels at a time of one vector of channels: an element of input is
// loaded once for the rows, a weight once for the pixels, so that R·J FMAs take R + J loads.
//
//        out row 0   out row 1   out row 2       input row i, column x + kx
//       ┌──┬──┬──┐  ┌──┬──┬──┐  ┌──┬──┬──┐       goes into out row o with the weights of
//       │s0│s1│… │  │  │  │  │  │  │  │  │       window row i − o
//       └──┴──┴──┘  └──┴──┴──┘  └──┴──┴──┘
//
// More than one row only with row stride 1, no dilation and windows of R rows or more. kPartial:
// fewer channels than a vector has lanes.
struct Taps {
  int64_t begin, end;
};

template <int R, int J, bool kPartial>
struct Tile {
  const DepthwiseRows& a;
  const float* HWY_RESTRICT weights;
  int64_t j0, count;  ///< output pixels
  int64_t x0;         ///< where pixel j0's window begins
  Taps some, inside;  ///< those that find some pixel, or all J, inside the row
  V sum[R][J];

  // One input row into output rows [kFirst, kEnd), of which kFirst meets it with window row ky.
  template <int kFirst, int kEnd>
  HWY_INLINE void add_row(const float* row, int64_t ky) {
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(D())), size = a.columns.size;
    const int64_t next = a.columns.dilation * static_cast<int64_t>(a.in_pixel);
    const float* HWY_RESTRICT w = weights + ky * size * lanes;
    const float* p = row + x0 * static_cast<int64_t>(a.in_pixel);
    const auto add_taps = [&]<bool kInside>(Taps taps) HWY_ATTR {
      for (int64_t kx = taps.begin; kx < taps.end; ++kx) {
        add_tap<kFirst, kEnd, kInside>(p + kx * next, kx, w + kx * lanes);
      }
    };
    add_taps.template operator()<false>({some.begin, inside.begin});
    add_taps.template operator()<true>(inside);
    add_taps.template operator()<false>({inside.end, some.end});
  }

  // p: where pixel 0 finds its input; without kInside others may find theirs outside the row.
  template <int kFirst, int kEnd, bool kInside>
  HWY_INLINE void add_tap(const float* p, int64_t kx, const float* HWY_RESTRICT w) {
    const D d;
    const size_t row_taps = static_cast<size_t>(a.columns.size) * hn::Lanes(d);
    V tap[R];
#pragma GCC unroll 4
    for (int o = kFirst; o < kEnd; ++o) {
      tap[o] = in_register(hn::Load(d, w - static_cast<size_t>(o - kFirst) * row_taps));
    }
    const size_t step = static_cast<size_t>(a.columns.stride) * a.in_pixel;
    const float* q = p + 4 * step;  // so that a few registers address them all
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
      const int64_t x = x0 + kx * a.columns.dilation + j * a.columns.stride;
      if (!kInside && (j >= count || x < 0 || x >= a.in_width)) continue;
      const float* from =
          j < 4 ? p + static_cast<size_t>(j) * step : q + (static_cast<size_t>(j) - 4) * step;
      const V v = in_register(load_lanes<kPartial>(from, a.channels));
#pragma GCC unroll 4
      for (int o = kFirst; o < kEnd; ++o) sum[o][j] = hn::MulAdd(v, tap[o], sum[o][j]);
    }
  }

  // Input rows i < R − 1 belong to the output rows down to i.
  template <int I>
  HWY_INLINE void add_top(const float* const* in) {
    if constexpr (I < R - 1) {
      if (in[I]) add_row<0, I + 1>(in[I], I);
      add_top<I + 1>(in);
    }
  }

  // The last R − 1 input rows belong to the output rows from I on; `in` and ky are output row 0's.
  template <int I>
  HWY_INLINE void add_bottom(const float* const* in, int64_t ky) {
    if constexpr (I < R) {
      if (in[I - 1]) add_row<I, R>(in[I - 1], ky);
      add_bottom<I + 1>(in, ky);
    }
  }

  HWY_INLINE void run(size_t c, V bias) {
    const D d;
    for (auto& row : sum) std::fill(row, row + J, hn::Zero(d));
    const auto at = [&](int64_t i) { return a.in[i] ? a.in[i] + c : nullptr; };
    const int64_t size = a.rows.size;
    const float* top[R];
    for (int i = 0; i < R - 1; ++i) top[i] = at(i);
    add_top<0>(top);
    for (int64_t i = R - 1; i < size; ++i) {
      if (const float* row = at(i)) add_row<0, R>(row, i);
    }
    for (int i = 0; i < R - 1; ++i) top[i] = at(size + i);
    add_bottom<1>(top, size - 1);
    const V lo = broadcast(&a.epilogue.lo), hi = broadcast(&a.epilogue.hi);
#pragma GCC unroll 4
    for (int o = 0; o < R; ++o) {
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) {
        if (j >= count) continue;
        float* p = a.out[o] + static_cast<size_t>(j0 + j) * a.out_pixel + c;
        const V v = clamp(hn::Add(sum[o][j], bias), lo, hi);
        if (kPartial) {
          store_first(d, v, a.channels, p);
        } else {
          store(a, v, p);
        }
      }
    }
  }
};

template <int R, int J, bool kPartial>
HWY_INLINE Tile<R, J, kPartial> tile(const DepthwiseRows& a, const float* weights, int64_t j) {
  const Window& win = a.columns;
  const int64_t count = HWY_MIN(int64_t{J}, a.out_width - j);
  const int64_t x0 = j * win.stride - win.pad;
  // Those kx with x ≥ 0 for the first of pixels lo … hi, and x < width for the last.
  const auto taps = [&](int64_t lo, int64_t hi) {
    const int64_t from = x0 + lo * win.stride, room = a.in_width - 1 - x0 - hi * win.stride;
    const int64_t begin = from < 0 ? (win.dilation - 1 - from) / win.dilation : 0;
    const int64_t end = room < 0 ? 0 : room / win.dilation + 1;
    return Taps{HWY_MIN(begin, win.size), HWY_MIN(end, win.size)};
  };
  const Taps some = taps(count - 1, 0);
  Taps inside = taps(0, J - 1);
  if (count < J || inside.begin >= inside.end) inside = {some.end, some.end};
  return {a, weights, j, count, x0, some, inside, {}};
}

template <int R, bool kPartial>
HWY_NOINLINE void general_blocks(const DepthwiseRows& args) {
  constexpr int J = R == 1 ? kPixels : kPixelsOfBand;
  const DepthwiseRows a = args;
  const D d;
  const size_t lanes = hn::Lanes(d);
  const size_t taps = static_cast<size_t>(a.rows.size * a.columns.size);
  for (size_t b = a.first_block; b < a.end_block; ++b) {
    const size_t c = block_channel(b, a.channels, lanes);
    const V bias = hn::Load(d, a.bias + b * lanes);
    for (int64_t j = 0; j < a.out_width; j += J) {
      tile<R, J, kPartial>(a, a.weights + b * taps * lanes, j).run(c, bias);
    }
    activate_block(a, c, R, kPartial ? a.channels : lanes);
  }
  if (a.streams) hwy::FlushStream();
}

template <int R>
void general_rows(const DepthwiseRows& a) {
  if (a.channels < hn::Lanes(D())) {
    general_blocks<R, true>(a);
  } else {
    general_blocks<R, false>(a);
  }
}

template <int K, int S, bool kGrouped, bool kTurns, int... I>
DepthwiseScheme scheme(std::integer_sequence<int, I...>) {
  return {"slide", true, sizeof...(I), {slide_rows<K, S, I + 1, kGrouped, kTurns>...}};
}

template <int K, int kStride1, int kStride2, bool kGrouped = false, bool kTurns = false>
std::array<DepthwiseScheme, 2> schemes() {
  return {scheme<K, 1, kGrouped, kTurns>(std::make_integer_sequence<int, kStride1>()),
          scheme<K, 2, kGrouped, kTurns>(std::make_integer_sequence<int, kStride2>())};
}

template <int... I>
DepthwiseScheme general_scheme(std::integer_sequence<int, I...>) {
  return {"general", false, sizeof...(I), {general_rows<I + 1>...}};
}

template <bool kTurns>
const DepthwiseNhwcKernels& kernels_with() {
  static const DepthwiseNhwcKernels table = {
      hn::Lanes(D()),
      general_scheme(std::make_integer_sequence<int, kBand>()),
      {schemes<3, kBand3, kBand3Stride2, false, kTurns>(), schemes<5, kBand5, kBand5Stride2>(),
       schemes<7, kBand7, 2>()},
      schemes<3, kBand3, kBand3Stride2, true>()};
  return table;
}

// Turns cost more than they bring with fewer registers, and for windows of 5×5 and more.
const DepthwiseNhwcKernels& kernels(bool adds_beside) {
  constexpr bool kTurns = HWY_TARGET == HWY_AVX3;
  return adds_beside ? kernels_with<false>() : kernels_with<kTurns>();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace sepconv {
HWY_EXPORT(kernels);
const DepthwiseNhwcKernels& depthwise_nhwc_kernels() {
  return dispatched(HWY_DISPATCH_TABLE(kernels))(adders() != Adders::kNone);
}
}  // namespace sepconv
#endif
