// Winograd's transforms, a vector of channels of one tile at a time, in registers (36 values of the
// larger sizes do not fit and pass through L1):
//
//      d: points × points inputs           Bᵀ·d·B, as many: first the columns, then the rows
//     ┌────┬────┬────┬────┐
//     │ d00│ d01│ d02│ d03│     4 points:  d2 − d0,  d1 + d2,  d2 − d1,  d3 − d1
//     │ d10│ d11│ d12│ d13│     6 points:  d0 − 2.5·d2 + d4,  (d4 − 2·d2) ± √½·(d3 − 2·d1),
//     │ d20│ d21│ d22│ d23│                (d4 − ½·d2) ± √2·(d3 − ½·d1),  d1 − 2.5·d3 + d5
//     │ d30│ d31│ d32│ d33│
//     └────┴────┴────┴────┘     Aᵀ·m·A, outputs × outputs:  y_i = Σ pⁱ·m_p over the points p
//
// Points that are each other's reciprocals keep the rounding errors of six at half of those of 0,
// ±1, ±2 and ∞. Flops per byte: 0.25 in and 0.3 out for F(2×2, 3×3), 0.9 and 0.8 for F(4×4, 3×3),
// 0.9 and 0.5 for F(2×2, 5×5), so that the cache is the limit; what they save is in the products
// between, which are GEMMs.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/winograd.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/winograd.h"
#include "kernels/activation-inl.h"
#include "kernels/epilogue-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

// Along one axis, a column of Bᵀ·d or a row of its product with B.
HWY_INLINE void spread(const V (&d)[4], V (&y)[4]) {
  y[0] = hn::Sub(d[2], d[0]);
  y[1] = hn::Add(d[1], d[2]);
  y[2] = hn::Sub(d[2], d[1]);
  y[3] = hn::Sub(d[3], d[1]);
}

constexpr float kSmall = 0.70710678F, kLarge = 1.41421356F;  // √½, √2

HWY_INLINE void spread(const V (&d)[6], V (&y)[6]) {
  const auto both = [&](float point, float other_squared, V& plus, V& minus) HWY_ATTR {
    const V factor = hn::Set(D(), other_squared), p = hn::Set(D(), point);
    const V even = hn::NegMulAdd(factor, d[2], d[4]), odd = hn::NegMulAdd(factor, d[1], d[3]);
    plus = hn::MulAdd(p, odd, even);
    minus = hn::NegMulAdd(p, odd, even);
  };
  const V middle = hn::Set(D(), 2.5F);
  y[0] = hn::Add(hn::NegMulAdd(middle, d[2], d[0]), d[4]);
  both(kSmall, 2.0F, y[1], y[2]);
  both(kLarge, 0.5F, y[3], y[4]);
  y[5] = hn::Add(hn::NegMulAdd(middle, d[3], d[1]), d[5]);
}

// The way back: products of four or six points to outputs.
HWY_INLINE void gather(const V (&m)[4], V (&y)[2]) {
  y[0] = hn::Add(hn::Add(m[0], m[1]), m[2]);
  y[1] = hn::Add(hn::Sub(m[1], m[2]), m[3]);
}

template <int kOutputs>
HWY_INLINE void gather(const V (&m)[6], V (&y)[kOutputs]) {
  const D d;
  const V even1 = hn::Add(m[1], m[2]), odd1 = hn::Sub(m[1], m[2]);
  const V even2 = hn::Add(m[3], m[4]), odd2 = hn::Sub(m[3], m[4]);
  const auto powers = [&](float small, float large, V a, V b) HWY_ATTR {
    return hn::MulAdd(hn::Set(d, small), a, hn::Mul(hn::Set(d, large), b));
  };
  y[0] = hn::Add(hn::Add(m[0], even1), even2);
  y[1] = powers(kSmall, kLarge, odd1, odd2);
  if constexpr (kOutputs == 4) {
    y[2] = powers(0.5F, 2.0F, even1, even2);
    y[3] = powers(kSmall / 2, kLarge * 2, odd1, odd2);
  }
  y[kOutputs - 1] = hn::Add(y[kOutputs - 1], m[5]);
}

template <int kPoints>
HWY_INLINE void transform_column(const WinogradTiles& a, int64_t x, size_t c, size_t n,
                                 V (&y)[kPoints]) {
  V d[kPoints];
  const bool inside = x >= 0 && x < a.width;
#pragma GCC unroll 6
  for (int r = 0; r < kPoints; ++r) {
    d[r] = inside && a.in[r] ? load_some(a.in[r] + static_cast<size_t>(x) * a.channels + c, n)
                             : hn::Zero(D());
  }
  spread(d, y);
}

template <int kPoints>
void transform_input(const WinogradTiles& args, float* matrices) {
  const WinogradTiles a = args;
  for (size_t tile = 0; tile < a.tiles; ++tile) {
    const int64_t x = a.left + a.step * static_cast<int64_t>(tile);
    for_vectors(a.channels, [&](size_t c, size_t n) HWY_ATTR {
      V columns[kPoints][kPoints];
#pragma GCC unroll 6
      for (int j = 0; j < kPoints; ++j) transform_column(a, x + j * a.dilation, c, n, columns[j]);
      float* to = matrices + tile * a.pitch + c;
#pragma GCC unroll 6
      for (int r = 0; r < kPoints; ++r) {
        V row[kPoints], y[kPoints];
#pragma GCC unroll 6
        for (int j = 0; j < kPoints; ++j) row[j] = columns[j][r];
        spread(row, y);
#pragma GCC unroll 6
        for (int j = 0; j < kPoints; ++j, to += a.matrix) store_some(y[j], n, to);
      }
    });
  }
}

template <int kOutputs, int kPoints>
void transform_output(const WinogradTiles& args, const float* matrices) {
  WinogradTiles a = args;
  const ActivationKind kind = args.epilogue.kind;
  const bool late = kind != ActivationKind::kNone && !args.epilogue.residual_first;
  if (late) a.residual = nullptr;
  for (size_t tile = 0; tile < a.tiles; ++tile) {
    for_vectors(a.channels, [&](size_t c, size_t n) HWY_ATTR {
      const float* from = matrices + tile * a.pitch + c;
      V half[kPoints][kOutputs];
#pragma GCC unroll 6
      for (int r = 0; r < kPoints; ++r) {
        V m[kPoints];
#pragma GCC unroll 6
        for (int j = 0; j < kPoints; ++j, from += a.matrix) m[j] = load_some(from, n);
        gather(m, half[r]);
      }
      const V bias = hn::Load(D(), a.bias + c);
#pragma GCC unroll 4
      for (size_t j = 0; j < kOutputs; ++j) {
        V column[kPoints], y[kOutputs];
#pragma GCC unroll 6
        for (int r = 0; r < kPoints; ++r) column[r] = half[r][j];
        gather(column, y);
        const int64_t x =
            a.step * static_cast<int64_t>(tile) + a.dilation * static_cast<int64_t>(j);
        if (x >= a.width) continue;
#pragma GCC unroll 4
        for (int r = 0; r < kOutputs; ++r) {
          if (!a.out[r]) continue;
          const size_t at = static_cast<size_t>(x) * a.pixel + c;
          const float* residual = a.residual ? a.residual[r] + at : nullptr;
          store_finished(a.epilogue, hn::Add(y[r], bias), residual, n, a.out[r] + at);
        }
      }
    });
  }
  if (kind == ActivationKind::kNone) return;
  const auto dilation = static_cast<size_t>(a.dilation);
  const size_t pixels = (static_cast<size_t>(a.width) + dilation - 1) / dilation;
  for (int r = 0; r < kOutputs; ++r) {
    if (!a.out[r]) continue;
    activate_rows(args.epilogue, a.out[r], late && args.residual ? args.residual[r] : nullptr,
                  dilation * a.pixel, pixels, a.channels);
  }
}

template <int kOutputs, int kTaps>
constexpr WinogradKernels kKernels = {transform_input<kOutputs + kTaps - 1>,
                                      transform_output<kOutputs, kOutputs + kTaps - 1>};

const WinogradKernels& kernels(WinogradSize size) {
  if (size.taps == 5) return kKernels<2, 5>;
  return size.outputs == 4 ? kKernels<4, 3> : kKernels<2, 3>;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace sepconv {
HWY_EXPORT(kernels);
const WinogradKernels& winograd_kernels(WinogradSize size) {
  return dispatched(HWY_DISPATCH_TABLE(kernels))(size);
}
}  // namespace sepconv
#endif
