// Winograd's transforms, a vector of channels of one tile at a time, all in registers:
//
//      d: 4 × 4 inputs                     Bᵀ·d·B, 4 × 4: each is a sum of up to four of d
//     ┌────┬────┬────┬────┐
//     │ d00│ d01│ d02│ d03│     rows:    d0 − d2,  d1 + d2,  d2 − d1,  d1 − d3
//     │ d10│ d11│ d12│ d13│     columns: the same
//     │ d20│ d21│ d22│ d23│
//     │ d30│ d31│ d32│ d33│     Aᵀ·m·A, 2 × 2: m0 + m1 + m2, m1 − m2 − m3
//     └────┴────┴────┴────┘
//
// 32 additions for 16 loads and 16 stores, 24 for 16 and 4: 0.25 and 0.3 flops per byte, so that
// the cache is the limit; what they save is in the 16 products between, which are GEMMs.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/winograd.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/winograd.h"
#include "kernels/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

// Calls work(first channel, how many, whether that is a whole vector) over all channels.
template <class Work>
HWY_INLINE void each_vector(size_t channels, const Work& work) {
  const size_t lanes = hn::Lanes(D());
  size_t c = 0;
  for (; c + lanes <= channels; c += lanes) work(c, lanes, true);
  if (c < channels) work(c, channels - c, false);
}

HWY_INLINE V load_some(const float* p, size_t n, bool whole) {
  return whole ? hn::LoadU(D(), p) : load_first(D(), n, p);
}

HWY_INLINE void store_some(V v, float* p, size_t n, bool whole) {
  if (whole) {
    hn::StoreU(v, D(), p);
  } else {
    store_first(D(), v, n, p);
  }
}

// One row of Bᵀ·d, or of its product with B: four values to four.
HWY_INLINE void spread(const V (&d)[4], V (&y)[4]) {
  y[0] = hn::Sub(d[0], d[2]);
  y[1] = hn::Add(d[1], d[2]);
  y[2] = hn::Sub(d[2], d[1]);
  y[3] = hn::Sub(d[1], d[3]);
}

// Four values to two.
HWY_INLINE void gather(const V (&m)[4], V (&y)[2]) {
  y[0] = hn::Add(hn::Add(m[0], m[1]), m[2]);
  y[1] = hn::Sub(hn::Sub(m[1], m[2]), m[3]);
}

HWY_INLINE void transform_column(const WinogradTiles& a, int64_t x, size_t c, size_t n, bool whole,
                                 V (&y)[4]) {
  V d[4];
  const bool inside = x >= 0 && x < a.width;
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    d[r] = inside && a.in[r]
               ? load_some(a.in[r] + static_cast<size_t>(x) * a.channels + c, n, whole)
               : hn::Zero(D());
  }
  spread(d, y);
}

void transform_input(const WinogradTiles& args, float* matrices) {
  const WinogradTiles a = args;
  for (size_t tile = 0; tile < a.tiles; ++tile) {
    const int64_t x = a.left + 2 * static_cast<int64_t>(tile);
    each_vector(a.channels, [&](size_t c, size_t n, bool whole) HWY_ATTR {
      V columns[4][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) transform_column(a, x + j, c, n, whole, columns[j]);
      float* to = matrices + tile * a.pitch + c;
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        const V row[4] = {columns[0][r], columns[1][r], columns[2][r], columns[3][r]};
        V y[4];
        spread(row, y);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j, to += a.matrix) store_some(y[j], to, n, whole);
      }
    });
  }
}

// Bias, residual and clamp of one output, then its store.
HWY_INLINE void finish(const WinogradTiles& a, int row, size_t at, V v, size_t n, bool whole) {
  const D d;
  V add = hn::Zero(d);
  const float* residual = a.residual ? a.residual[row] : nullptr;
  if (residual) add = load_some(residual + at, n, whole);
  if (a.epilogue.residual_first) v = hn::Add(v, add);
  v = clamp(v, hn::Set(d, a.epilogue.lo), hn::Set(d, a.epilogue.hi));
  if (!a.epilogue.residual_first) v = hn::Add(v, add);
  store_some(v, a.out[row] + at, n, whole);
}

void transform_output(const WinogradTiles& args, const float* matrices) {
  WinogradTiles a = args;
  const ActivationKind kind = args.epilogue.kind;
  const bool late = kind != ActivationKind::kNone && !args.epilogue.residual_first;
  if (late) a.residual = nullptr;
  for (size_t tile = 0; tile < a.tiles; ++tile) {
    each_vector(a.channels, [&](size_t c, size_t n, bool whole) HWY_ATTR {
      const float* from = matrices + tile * a.pitch + c;
      V half[4][2];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        V m[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j, from += a.matrix) m[j] = load_some(from, n, whole);
        gather(m, half[r]);
      }
      const V bias = hn::Load(D(), a.bias + c);
#pragma GCC unroll 2
      for (size_t j = 0; j < 2; ++j) {
        const V column[4] = {half[0][j], half[1][j], half[2][j], half[3][j]};
        V y[2];
        gather(column, y);
        const size_t x = 2 * tile + j;
        if (static_cast<int64_t>(x) >= a.width) continue;
        for (int r = 0; r < 2; ++r) {
          if (a.out[r]) finish(a, r, x * a.pixel + c, hn::Add(y[r], bias), n, whole);
        }
      }
    });
  }
  if (kind == ActivationKind::kNone) return;
  for (int r = 0; r < 2; ++r) {
    if (!a.out[r]) continue;
    activate_rows(kind, a.out[r], late && args.residual ? args.residual[r] : nullptr, a.pixel,
                  static_cast<size_t>(a.width), a.channels);
  }
}

const WinogradKernels& kernels() {
  static const WinogradKernels table = {transform_input, transform_output};
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
const WinogradKernels& winograd_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
