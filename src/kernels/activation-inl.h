// Activations on vectors. Included once per target by the kernel files.
#if defined(SEPCONV_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_ACTIVATION_INL_H_
#undef SEPCONV_ACTIVATION_INL_H_
#else
#define SEPCONV_ACTIVATION_INL_H_
#endif

#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>
#include "kernels/epilogue.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// NaN passes through: x86's min and max return the second operand if either is NaN, NEON's return
// NaN; Highway's scalar ones would return the number.
HWY_INLINE V clamp(V x, V lo, V hi) {
#if HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Lt(x, lo), lo, hn::IfThenElse(hn::Lt(hi, x), hi, x));
#else
  return hn::Min(hi, hn::Max(lo, x));
#endif
}

HWY_INLINE V keep_nan(V x, V result) { return hn::IfThenElse(hn::IsNaN(x), x, result); }

// With e = exp(−|x|) ≤ 1, so that nothing overflows: 1 / (1 + e), or e / (1 + e) below zero.
HWY_INLINE V sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  const V top = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
  return keep_nan(x, hn::Div(top, hn::Add(one, e)));
}

HWY_INLINE V hardsigmoid(D d, V x) {
  const V shifted = hn::Add(x, hn::Set(d, 3.0f));
  return hn::Mul(clamp(shifted, hn::Zero(d), hn::Set(d, 6.0f)), hn::Set(d, 1.0f / 6));
}

// erf(x): odd polynomial below 1, 1 − exp(−q(|x|)) above, both least-squares fits on Chebyshev
// nodes with relative error under 4e-9 in exact arithmetic; 1 beyond 4.
HWY_INLINE V erf(D d, V x) {
  const V a = hn::Abs(x);
  const V s = hn::Mul(x, x);
  V p = hn::Set(d, 7.882497448008507e-05f);
  p = hn::MulAdd(p, s, hn::Set(d, -8.018855005502701e-04f));
  p = hn::MulAdd(p, s, hn::Set(d, 5.189312156289816e-03f));
  p = hn::MulAdd(p, s, hn::Set(d, -2.685432881116867e-02f));
  p = hn::MulAdd(p, s, hn::Set(d, 1.128359735012054e-01f));
  p = hn::MulAdd(p, s, hn::Set(d, -3.761262595653534e-01f));
  p = hn::MulAdd(p, s, hn::Set(d, 1.1283791065216064f));
  const V small = hn::Mul(x, p);

  const V t = hn::Min(a, hn::Set(d, 4.0f));
  V q = hn::Set(d, -1.6140616025950294e-06f);
  q = hn::MulAdd(q, t, hn::Set(d, 4.559062290354632e-05f));
  q = hn::MulAdd(q, t, hn::Set(d, -5.927695310674608e-04f));
  q = hn::MulAdd(q, t, hn::Set(d, 4.740222357213497e-03f));
  q = hn::MulAdd(q, t, hn::Set(d, -2.636471763253212e-02f));
  q = hn::MulAdd(q, t, hn::Set(d, 1.0997824370861053e-01f));
  q = hn::MulAdd(q, t, hn::Set(d, 6.319370865821838e-01f));
  q = hn::MulAdd(q, t, hn::Set(d, 1.1301666498184204f));
  q = hn::MulAdd(q, t, hn::Set(d, -3.032129898201674e-04f));
  const V large = hn::Sub(hn::Set(d, 1.0f), hn::Exp(d, hn::Neg(q)));
  const V y = hn::IfThenElse(hn::Lt(a, hn::Set(d, 1.0f)), small, hn::CopySign(large, x));
  return keep_nan(x, y);
}

HWY_INLINE V gelu(D d, V x) {
  const V half = hn::Mul(x, hn::Set(d, 0.5f));
  return hn::MulAdd(half, erf(d, hn::Mul(x, hn::Set(d, 0.70710678118654752f))), half);
}

// x/2 (1 + tanh u) = x · sigmoid(2u).
HWY_INLINE V gelu_tanh(D d, V x) {
  const V cubic = hn::MulAdd(hn::Mul(hn::Set(d, 0.044715f), x), hn::Mul(x, x), x);
  return hn::Mul(x, sigmoid(d, hn::Mul(hn::Set(d, 1.5957691216057308f), cubic)));
}

HWY_INLINE V activate(D d, ActivationKind kind, V x) {
  switch (kind) {
    case ActivationKind::kHardSwish:
      return hn::Mul(x, hardsigmoid(d, x));
    case ActivationKind::kHardSigmoid:
      return hardsigmoid(d, x);
    case ActivationKind::kSilu:
      return hn::Mul(x, sigmoid(d, x));
    case ActivationKind::kGelu:
      return gelu(d, x);
    case ActivationKind::kGeluTanh:
      return gelu_tanh(d, x);
    case ActivationKind::kSigmoid:
      return sigmoid(d, x);
    default:
      return x;
  }
}

// `count` whole vectors in place. Not inlined, so that a kernel's loop stays small: it is called on
// a tile that is in L1 or still in the store buffer.
inline HWY_NOINLINE void activate_vectors(ActivationKind kind, float* HWY_RESTRICT x,
                                          size_t count) {
  const D d;
  const size_t n = count * hn::Lanes(d);
  for (size_t i = 0; i < n; i += hn::Lanes(d))
    hn::Store(activate(d, kind, hn::Load(d, x + i)), d, x + i);
}

// The first `n` of a vector's lanes, the others zero, touching no other memory. Below AVX2, and on
// NEON, Highway's masked loads and stores access the whole vector, so these go lane by lane there.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
HWY_INLINE V load_first(D d, size_t n, const float* p) {
  return hn::MaskedLoad(hn::FirstN(d, n), d, p);
}

HWY_INLINE void store_first(D d, V v, size_t n, float* p) {
  hn::BlendedStore(v, hn::FirstN(d, n), d, p);
}
#else
HWY_INLINE V load_first(D d, size_t n, const float* p) {
  HWY_ALIGN float lanes[hn::MaxLanes(D())] = {};
  for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
  return hn::Load(d, lanes);
}

HWY_INLINE void store_first(D d, V v, size_t n, float* p) {
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  hn::Store(v, d, lanes);
  for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
