// One row against P adjacent panels of packed weights. Register tile:
//
//              panel 0    panel 1   …   panel P − 1
//               b0 b1      b0 b1         b0 b1       two vectors of each, loaded once
//      a0 →    s00 s01    s10 s11   …                and a total of each for what is added in parts
//
// With one panel's two sums every product would wait for the one before; P panels have 2·P sums.
// Per k: 2·P FMAs for 2·P + 1 loads, half a flop for every byte of weights, so that the cache or
// memory that these come from is the limit.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemv.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/gemv.h"
#include "kernels/activation-inl.h"
#include "kernels/epilogue-inl.h"
#include "kernels/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

// Sums of two vectors of P panels.
template <int P>
struct Sums {
  V of[P][2];

  HWY_INLINE Sums() {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) of[p][0] = of[p][1] = hn::Zero(D());
  }

  // += a · b over `count` values of k. P streams need no prefetch of ours: with it, the classifiers
  // of whole networks took longer (Zen 4).
  HWY_INLINE void add_products(const float* a, const float* HWY_RESTRICT b, size_t panel_floats,
                               size_t count) {
    const D d;
    const size_t lanes = hn::Lanes(d);
    for (size_t k = 0; k < count; ++k, b += 2 * lanes) {
      const V value = broadcast(a + k);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const float* column = b + static_cast<size_t>(p) * panel_floats;
        of[p][0] = hn::MulAdd(value, hn::Load(d, column), of[p][0]);
        of[p][1] = hn::MulAdd(value, hn::Load(d, column + lanes), of[p][1]);
      }
    }
  }

  HWY_INLINE void add(const Sums& other) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      of[p][0] = hn::Add(of[p][0], other.of[p][0]);
      of[p][1] = hn::Add(of[p][1], other.of[p][1]);
    }
  }
};

// One vector with its bias; where a costly activation follows, the residual behind it is left to
// that.
HWY_INLINE void store(const GemvPanels& t, size_t at, V v) {
  const D d;
  if (at >= t.columns) return;
  const size_t n = HWY_MIN(hn::Lanes(d), t.columns - at);
  const bool adds =
      t.residual && (t.epilogue.residual_first || t.epilogue.kind == ActivationKind::kNone);
  store_finished(t.epilogue, hn::Add(v, hn::Load(d, t.bias + at)), adds ? t.residual + at : nullptr,
                 n, t.c + at);
}

// In parts, as gemm adds.
template <int P>
void panels(const GemvPanels& args) {
  const GemvPanels t = args;
  const size_t width = 2 * hn::Lanes(D());
  Sums<P> total;
  for (size_t start = 0; start < t.k; start += kGemmPart) {
    Sums<P> part;
    part.add_products(t.a + start, t.b + start * width, t.panel_floats,
                      HWY_MIN(kGemmPart, t.k - start));
    if (start == 0) {
      total = part;
    } else {
      total.add(part);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    store(t, static_cast<size_t>(p) * width, total.of[p][0]);
    store(t, static_cast<size_t>(p) * width + width / 2, total.of[p][1]);
  }
  if (t.epilogue.kind != ActivationKind::kNone) {
    const float* late = t.epilogue.residual_first ? nullptr : t.residual;
    activate_rows(t.epilogue, t.c, late, t.columns, 1, t.columns);
  }
}

const GemvKernels& kernels() {
  // As many as registers allow: two sums and two totals for each.
  constexpr size_t kMost = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 4 : 3;
  static const GemvKernels table = {kMost, {panels<1>, panels<2>, panels<3>, panels<4>}};
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
const GemvKernels& gemv_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
