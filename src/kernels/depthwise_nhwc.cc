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

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise_nhwc.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <utility>

#include "kernels/activation-inl.h"
#include "kernels/depthwise.h"

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
#else
constexpr int kRegisters = 16;
constexpr int kBand3 = 3, kBand5 = 2, kBand7 = 2;
constexpr int kBand3Stride2 = 2, kBand5Stride2 = 2;
#endif

// GCC would rather load a weight again for each row than keep it: loads are the limit.
HWY_INLINE V in_register(V v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && !HWY_COMPILER_CLANG
  asm("" : "+v"(v.raw));
#endif
  return v;
}

// R output rows of a K×K window with stride S. kBorder: some input rows are missing (null).
template <int K, int S, int R, bool kBorder>
struct Slide {
  static constexpr int kInputRows = (R - 1) * S + K;
  static constexpr int kPending = (K - 1) / S + 1;
  // What stays in registers beside the sums: all weights, where they fit with some elements of the
  // input, each loaded once for a whole row of outputs; or else a column of input, so that each
  // weight is loaded once for all R rows; or else neither.
  static constexpr bool kHoldsWeights = K == 3 && R * kPending + K * K + 2 * R + 3 <= kRegisters;
  // A missing row is left out, or, where it is one of few, taken as zeros, which costs less.
  static constexpr bool kZeroRows = K == 3;
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

  // Adds input element v, row i and column C of output 0's window, into the sums it belongs to.
  template <int C>
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
        sum[o][q] = hn::MulAdd(v, weight, sum[o][q]);
      }
    }
  }

  // The same for a whole column in registers.
  template <int C>
  HWY_INLINE void add_column(const V (&x)[kInputRows], const float* HWY_RESTRICT w) {
#pragma GCC unroll 8
    for (int ky = 0; ky < K; ++ky) {
#pragma GCC unroll 8
      for (int q = 0; q < kPending; ++q) {
        const int kx = C - S * q;
        if (kx < 0) continue;
        const V weight = in_register(load_weight(w, ky * K + kx));
#pragma GCC unroll 8
        for (int o = 0; o < R; ++o) sum[o][q] = hn::MulAdd(x[o * S + ky], weight, sum[o][q]);
      }
    }
  }

  // A whole column at float offset `at` of every row.
  template <int C>
  HWY_INLINE void column(const float* const (&in)[kInputRows], size_t at,
                         const float* HWY_RESTRICT w) {
    const D d;
    if constexpr (kHoldsColumn) {
      V x[kInputRows];
#pragma GCC unroll 16
      for (int i = 0; i < kInputRows; ++i) {
        x[i] = !kBorder || in[i] ? hn::LoadU(d, in[i] + at) : hn::Zero(d);
      }
      add_column<C>(x, w);
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < kInputRows; ++i) {
        if (!kBorder || in[i]) {
          add<C>(in_register(hn::LoadU(d, in[i] + at)), i, w);
        } else if (kZeroRows) {
          add<C>(hn::Zero(d), i, w);
        }
      }
    }
  }

  // The columns [kFirst, kFirst + kCount) of the window whose column 0 is input column x.
  template <int kFirst, int kCount, bool kInside>
  HWY_INLINE void columns(const float* const (&in)[kInputRows], int64_t x, const DepthwiseRows& a,
                          const float* HWY_RESTRICT w) {
    if constexpr (kCount > 0) {
      const int64_t at = x + kFirst;
      if (kInside || (at >= 0 && at < a.in_width)) {
        column<kFirst>(in, static_cast<size_t>(at) * a.in_pixel, w);
      }
      columns<kFirst + 1, kCount - 1, kInside>(in, x, a, w);
    }
  }

  HWY_INLINE void store(const DepthwiseRows& a, float* const (&out)[R], int64_t j, V bias, V lo,
                        V hi) {
    const D d;
    for (int o = 0; o < R; ++o) {
      hn::StoreU(clamp(hn::Add(sum[o][0], bias), lo, hi), d,
                 out[o] + static_cast<size_t>(j) * a.out_pixel);
    }
  }

  HWY_INLINE void advance() {
    for (int o = 0; o < R; ++o) {
      for (int q = 0; q + 1 < kPending; ++q) sum[o][q] = sum[o][q + 1];
      sum[o][kPending - 1] = hn::Zero(D());
    }
  }

  template <bool kInside>
  static HWY_INLINE void outputs(Slide& slide, const float* const (&in)[kInputRows],
                                 float* const (&out)[R], int64_t begin, int64_t end,
                                 const DepthwiseRows& a, const float* HWY_RESTRICT w, V bias) {
    const D d;
    const V lo = hn::Set(d, a.epilogue.lo), hi = hn::Set(d, a.epilogue.hi);
    for (int64_t j = begin; j < end; ++j) {
      slide.template columns<K - S, S, kInside>(in, j * S - a.columns.pad, a, w);
      slide.store(a, out, j, bias, lo, hi);
      slide.advance();
    }
  }

  static HWY_INLINE void block(const DepthwiseRows& a, size_t c, const float* HWY_RESTRICT w,
                               V bias) {
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
    outputs<false>(slide, in, out, 0, left, a, w, bias);
    outputs<true>(slide, in, out, left, right, a, w, bias);
    outputs<false>(slide, in, out, right, a.out_width, a, w, bias);
  }
};

template <int K, int S, int R, bool kBorder>
HWY_NOINLINE void slide_blocks(const DepthwiseRows& args) {
  const DepthwiseRows a = args;  // the stores below might change what args refers to
  const D d;
  const size_t lanes = hn::Lanes(d);
  const size_t blocks = (a.channels + lanes - 1) / lanes;
  for (size_t b = 0; b < blocks; ++b) {
    const size_t c = block_channel(b, a.channels, lanes);
    Slide<K, S, R, kBorder>::block(a, c, a.weights + b * K * K * lanes,
                                   hn::Load(d, a.bias + b * lanes));
    if (a.epilogue.kind == ActivationKind::kNone) continue;
    for (int o = 0; o < R; ++o) {
      activate_rows(a.epilogue.kind, a.out[o] + c, nullptr, a.out_pixel,
                    static_cast<size_t>(a.out_width), lanes);
    }
  }
}

template <int K, int S, int R>
void slide_rows(const DepthwiseRows& a) {
  const auto missing = [](const float* row) { return row == nullptr; };
  if (std::any_of(a.in, a.in + (R - 1) * S + K, missing)) {
    slide_blocks<K, S, R, true>(a);
  } else {
    slide_blocks<K, S, R, false>(a);
  }
}

// Any window: eight output pixels of one vector of channels share each weight; rows outer, columns
// inner. kPartial: fewer channels than a vector has lanes.
constexpr int kPixels = 8;

template <bool kPartial>
HWY_INLINE V load_channels(const float* p, size_t channels) {
  const D d;
  return kPartial ? load_first(d, channels, p) : hn::LoadU(d, p);
}

template <bool kPartial>
HWY_INLINE void general_pixels(const DepthwiseRows& a, size_t c, const float* HWY_RESTRICT weights,
                               V bias, int64_t j0, int64_t count) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  V sum[kPixels];
  for (V& s : sum) s = hn::Zero(d);
  const Window& win = a.columns;
  const int64_t x0 = j0 * win.stride - win.pad;
  const int64_t last = x0 + (count - 1) * win.stride;
  for (int64_t ky = 0; ky < a.rows.size; ++ky) {
    if (!a.in[ky]) continue;
    const float* row = a.in[ky] + c;
    for (int64_t kx = 0; kx < win.size; ++kx) {
      const int64_t shift = kx * win.dilation;
      if (last + shift < 0 || x0 + shift >= a.in_width) continue;
      const V w = hn::Load(d, weights + static_cast<size_t>(ky * win.size + kx) * lanes);
      if (count == kPixels && x0 + shift >= 0 && last + shift < a.in_width) {
        const float* p = row + static_cast<size_t>(x0 + shift) * a.in_pixel;
        const size_t step = static_cast<size_t>(win.stride) * a.in_pixel;
#pragma GCC unroll 8
        for (size_t i = 0; i < kPixels; ++i) {
          sum[i] = hn::MulAdd(load_channels<kPartial>(p + i * step, a.channels), w, sum[i]);
        }
      } else {
#pragma GCC unroll 8
        for (int64_t i = 0; i < kPixels; ++i) {
          const int64_t x = x0 + shift + i * win.stride;
          if (i >= count || x < 0 || x >= a.in_width) continue;
          const float* p = row + static_cast<size_t>(x) * a.in_pixel;
          sum[i] = hn::MulAdd(load_channels<kPartial>(p, a.channels), w, sum[i]);
        }
      }
    }
  }
  const V lo = hn::Set(d, a.epilogue.lo), hi = hn::Set(d, a.epilogue.hi);
#pragma GCC unroll 8
  for (int64_t i = 0; i < kPixels; ++i) {
    if (i >= count) continue;
    float* p = a.out[0] + static_cast<size_t>(j0 + i) * a.out_pixel + c;
    const V v = clamp(hn::Add(sum[i], bias), lo, hi);
    if (kPartial) {
      store_first(d, v, a.channels, p);
    } else {
      hn::StoreU(v, d, p);
    }
  }
}

template <bool kPartial>
HWY_NOINLINE void general_row(const DepthwiseRows& a) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  const size_t blocks = (a.channels + lanes - 1) / lanes;
  const size_t taps = static_cast<size_t>(a.rows.size * a.columns.size);
  for (size_t b = 0; b < blocks; ++b) {
    const size_t c = block_channel(b, a.channels, lanes);
    for (int64_t j = 0; j < a.out_width; j += kPixels) {
      const int64_t count = HWY_MIN(int64_t{kPixels}, a.out_width - j);
      general_pixels<kPartial>(a, c, a.weights + b * taps * lanes, hn::Load(d, a.bias + b * lanes),
                               j, count);
      if (a.epilogue.kind == ActivationKind::kNone) continue;
      activate_rows(a.epilogue.kind, a.out[0] + static_cast<size_t>(j) * a.out_pixel + c, nullptr,
                    a.out_pixel, static_cast<size_t>(count), kPartial ? a.channels : lanes);
    }
  }
}

void general(const DepthwiseRows& a) {
  if (a.channels < hn::Lanes(D())) {
    general_row<true>(a);
  } else {
    general_row<false>(a);
  }
}

template <int K, int S, int... I>
DepthwiseScheme scheme(std::integer_sequence<int, I...>) {
  return {sizeof...(I), {slide_rows<K, S, I + 1>...}};
}

template <int K, int kBand, int kBandStride2>
std::array<DepthwiseScheme, 2> schemes() {
  return {scheme<K, 1>(std::make_integer_sequence<int, kBand>()),
          scheme<K, 2>(std::make_integer_sequence<int, kBandStride2>())};
}

const DepthwiseNhwcKernels& kernels() {
  static const DepthwiseNhwcKernels table = {
      hn::Lanes(D()),
      general,
      {schemes<3, kBand3, kBand3Stride2>(), schemes<5, kBand5, kBand5Stride2>(),
       schemes<7, kBand7, 2>()}};
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
const DepthwiseNhwcKernels& depthwise_nhwc_kernels() {
  return dispatched(HWY_DISPATCH_TABLE(kernels))();
}
}  // namespace sepconv
#endif
