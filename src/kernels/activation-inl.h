// Activations on vectors. Included once per target by the kernel files.
#if defined(SEPCONV_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_ACTIVATION_INL_H_
#undef SEPCONV_ACTIVATION_INL_H_
#else
#define SEPCONV_ACTIVATION_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <iterator>

#include "kernels/epilogue.h"
#include "kernels/tables.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {

// The entry that the low bits of each lane of `index` name, of a table in registers: of 32 floats
// with AVX-512, of 8 with AVX2.
#if HWY_TARGET == HWY_AVX3
inline constexpr const auto& kErf = kErfOf32Stretches;

HWY_INLINE V lookup(const float* table, V index) {
  const D d;
  return V{_mm512_permutex2var_ps(hn::Load(d, table).raw, _mm512_castps_si512(index.raw),
                                  hn::Load(d, table + 16).raw)};
}
#elif HWY_TARGET == HWY_AVX2
inline constexpr const auto& kErf = kErfOf8Stretches;

HWY_INLINE V lookup(const float* table, V index) {
  return V{_mm256_permutevar8x32_ps(hn::Load(D(), table).raw, _mm256_castps_si256(index.raw))};
}
#endif

// exp(−x); infinity for x < −87, and x taken as 87 beyond that, so that no result is
// denormal. −x = n·ln 2 − s; exp(−s) by a polynomial fitted to 3e-9 on |s| ≤ ln 2 / 2, times 2^n by
// its exponent's bits: n is the low end of the mantissa once 1.5·2²³ was added. NaN gives anything.
#if HWY_TARGET == HWY_AVX3
// With AVX-512's own: n is a multiple of 1/32, whose fraction, the low end of the mantissa, chooses
// its power of two from two registers; what is left of x is so small that a square does (fitted to
// 5e-8), and scaling by 2^n over- and underflows by itself. 11 operations instead of 17.
HWY_INLINE V exp_negated(D d, V x) {
  const V shifter = hn::Set(d, 393216.0f);  // 1.5·2¹⁸
  constexpr int kLesserMagnitude = 2;
  x = V{_mm512_range_ps(x.raw, hn::Set(d, 100.0f).raw, kLesserMagnitude)};
  const V shifted = hn::NegMulAdd(x, hn::Set(d, 1.44269504f), shifter);
  const V n = hn::Sub(shifted, shifter);
  const V s = hn::MulAdd(n, hn::Set(d, 0.693147181f), x);
  const V power = lookup(kPowersOfTwo, shifted);
  const V q = hn::MulAdd(s, hn::Set(d, 0.5f), hn::Set(d, -1.0000146f));
  const V e = hn::MulAdd(hn::Mul(power, s), q, power);
  return V{_mm512_scalef_ps(e.raw, n.raw)};
}
#elif HWY_TARGET == HWY_AVX2
// n a multiple of 1/8, whose power of two is in one register, so that a cube does (fitted to 3e-8);
// its whole part goes into the exponent, from which the table's bits take the fraction's off again.
HWY_INLINE V exp_negated(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V shifter = hn::Set(d, 1572864.0f);  // 1.5·2²⁰
  const V overflows = hn::VecFromMask(d, hn::Lt(x, hn::Set(d, -87.0f)));
  x = hn::Min(x, hn::Set(d, 87.0f));
  const V shifted = hn::NegMulAdd(x, hn::Set(d, 1.44269504f), shifter);
  const V s = hn::MulAdd(hn::Sub(shifted, shifter), hn::Set(d, 0.693147181f), x);
  const auto exponent = hn::ShiftLeft<20>(hn::BitCast(di, shifted));
  const auto fraction = hn::BitCast(di, lookup(kEighthPowersOfTwo, shifted));
  const V power = hn::BitCast(d, hn::Add(fraction, exponent));
  V q = hn::MulAdd(s, hn::Set(d, -0.166642964f), hn::Set(d, 0.50006485f));
  q = hn::MulAdd(q, s, hn::Set(d, -1.0f));
  const V e = hn::MulAdd(hn::Mul(power, s), q, power);
  return hn::Max(e, hn::And(overflows, hn::Inf(d)));
}
#else
HWY_INLINE V exp_negated(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V shifter = hn::Set(d, 12582912.0f);
  const auto overflows = hn::Lt(x, hn::Set(d, -87.0f));
  x = hn::Min(x, hn::Set(d, 87.0f));
  const V shifted = hn::NegMulAdd(x, hn::Set(d, 1.44269504f), shifter);
  const V n = hn::Sub(shifted, shifter);
  V s = hn::MulAdd(n, hn::Set(d, 0.693145751953125f), x);
  s = hn::MulAdd(n, hn::Set(d, 1.42860677e-6f), s);
  V p = hn::Set(d, 1.3814466e-3f);
  p = hn::MulAdd(p, s, hn::Set(d, -8.3687808e-3f));
  p = hn::MulAdd(p, s, hn::Set(d, 4.16683927e-2f));
  p = hn::MulAdd(p, s, hn::Set(d, -1.66665196e-1f));
  p = hn::MulAdd(p, s, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, s, hn::Set(d, -1.0f));
  p = hn::MulAdd(p, s, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const V e = hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
  return hn::IfThenElse(overflows, hn::Inf(d), e);
}
#endif

HWY_INLINE V leaky_relu(V x, V slope) {
  return hn::IfThenElse(hn::Lt(x, hn::Zero(D())), hn::Mul(x, slope), x);
}

// x / (1 + exp(−y)): x times y's sigmoid.
HWY_INLINE V times_sigmoid(D d, V x, V y) {
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), exp_negated(d, y)));
}

HWY_INLINE V sigmoid(D d, V x) { return keep_nan(x, times_sigmoid(d, hn::Set(d, 1.0f), x)); }

HWY_INLINE V silu(D d, V x) { return times_sigmoid(d, x, x); }

// One rounding for every x in the middle. (x + 3) · ⅙ would have two, and be too large on average,
// as ⅙ is in float32, by 2⁻²⁵ of it; so only x / 6 is, away from 0.
HWY_INLINE V hardsigmoid(D d, V x) {
  const V line = hn::MulAdd(x, hn::Set(d, 1.0f / 6), hn::Set(d, 0.5f));
  return clamp(line, hn::Zero(d), hn::Set(d, 1.0f));
}

// erf(u/√2) for u ≥ 0; exactly 1 from 6 on.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
// By a polynomial of its own, from registers, for each stretch of u.
HWY_INLINE V erf_of_root_half(D d, V u) {
  constexpr size_t kDegree = std::size(kErf.coefficients) - 1;
  const V shifter = hn::Set(d, 8388608.0f);  // 2²³: its mantissa's end counts stretches
  u = hn::Min(u, hn::Set(d, kErf.end));
  const V shifted = hn::MulAdd(u, hn::Set(d, 1 / kErf.stretch), shifter);
  const V t = hn::NegMulAdd(hn::Sub(shifted, shifter), hn::Set(d, kErf.stretch), u);
  V y = lookup(kErf.coefficients[kDegree], shifted);
#pragma GCC unroll 6
  for (size_t power = kDegree; power > 0; --power) {
    y = hn::MulAdd(y, t, lookup(kErf.coefficients[power - 1], shifted));
  }
  return y;
}
#else
// Odd polynomial for erf below 1, 1 − exp(−q) above, both least-squares fits on Chebyshev nodes
// with relative error under 4e-9 in exact arithmetic.
HWY_INLINE V erf_of_root_half(D d, V u) {
  const V a = hn::Mul(u, hn::Set(d, 0.70710678118654752f));
  const V s = hn::Mul(a, a);
  V p = hn::Set(d, 7.882497448008507e-05f);
  p = hn::MulAdd(p, s, hn::Set(d, -8.018855005502701e-04f));
  p = hn::MulAdd(p, s, hn::Set(d, 5.189312156289816e-03f));
  p = hn::MulAdd(p, s, hn::Set(d, -2.685432881116867e-02f));
  p = hn::MulAdd(p, s, hn::Set(d, 1.128359735012054e-01f));
  p = hn::MulAdd(p, s, hn::Set(d, -3.761262595653534e-01f));
  p = hn::MulAdd(p, s, hn::Set(d, 1.1283791065216064f));
  const V small = hn::Mul(a, p);

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
  const V large = hn::Sub(hn::Set(d, 1.0f), exp_negated(d, q));
  return hn::IfThenElse(hn::Lt(a, hn::Set(d, 1.0f)), small, large);
}
#endif

HWY_INLINE V gelu(D d, V x) {
  const V half = hn::Mul(x, hn::Set(d, 0.5f));
  return hn::MulAdd(hn::Abs(half), erf_of_root_half(d, hn::Abs(x)), half);
}

// x/2 (1 + tanh u) = x · sigmoid(2u).
HWY_INLINE V gelu_tanh(D d, V x) {
  const V cubic = hn::MulAdd(hn::Mul(hn::Set(d, 0.044715f), x), hn::Mul(x, x), x);
  return times_sigmoid(d, x, hn::Mul(hn::Set(d, 1.5957691216057308f), cubic));
}

// Highway's, within 4 ulp.
HWY_INLINE V tanh(D d, V x) { return keep_nan(x, hn::Tanh(d, x)); }

// −alpha below −87, where Highway's takes no longer all numbers.
HWY_INLINE V elu(D d, V x, V alpha) {
  const V below = hn::Mul(alpha, hn::Expm1(d, hn::Max(x, hn::Set(d, -87.0f))));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), below, x);
}

// max(x, 0) + log(1 + exp(−|x|)).
HWY_INLINE V softplus(D d, V x) {
  const V rest = hn::Log1p(d, exp_negated(d, hn::Abs(x)));
  return keep_nan(x, hn::Add(hn::Max(x, hn::Zero(d)), rest));
}

// n = w² + 2w with w = exp x: tanh(softplus(x)) = n / (n + 2), which is 1 from 20 on and 0 below
// −87.
HWY_INLINE V mish_numerator(D d, V x) {
  const V w = exp_negated(d, hn::Neg(hn::Min(x, hn::Set(d, 20.0f))));
  const V n = hn::Mul(w, hn::Add(w, hn::Set(d, 2.0f)));
  return hn::IfThenElseZero(hn::Gt(x, hn::Set(d, -87.0f)), n);
}

HWY_INLINE V mish(D d, V x) {
  const V n = mish_numerator(d, x);
  return hn::Mul(x, hn::Div(n, hn::Add(n, hn::Set(d, 2.0f))));
}

// Calls work with the function of an activation, or with one that leaves vectors as they are: a
// loop for each kind, so that none decides for every vector.
template <class Work>
HWY_INLINE void with_activation(const Epilogue& e, const Work& work) {
  const D d;
  switch (e.kind) {
    case ActivationKind::kLeakyRelu:
      return work([slope = hn::Set(d, e.slope)](V v) HWY_ATTR { return leaky_relu(v, slope); });
    case ActivationKind::kHardSwish:
      return work([d](V v) HWY_ATTR { return hn::Mul(v, hardsigmoid(d, v)); });
    case ActivationKind::kHardSigmoid:
      return work([d](V v) HWY_ATTR { return hardsigmoid(d, v); });
    case ActivationKind::kSilu:
      return work([d](V v) HWY_ATTR { return silu(d, v); });
    case ActivationKind::kGelu:
      return work([d](V v) HWY_ATTR { return gelu(d, v); });
    case ActivationKind::kGeluTanh:
      return work([d](V v) HWY_ATTR { return gelu_tanh(d, v); });
    case ActivationKind::kSigmoid:
      return work([d](V v) HWY_ATTR { return sigmoid(d, v); });
    case ActivationKind::kTanh:
      return work([d](V v) HWY_ATTR { return tanh(d, v); });
    case ActivationKind::kElu:
      return work([d, alpha = hn::Set(d, e.alpha)](V v) HWY_ATTR { return elu(d, v, alpha); });
    case ActivationKind::kSoftplus:
      return work([d](V v) HWY_ATTR { return softplus(d, v); });
    case ActivationKind::kMish:
      return work([d](V v) HWY_ATTR { return mish(d, v); });
    default:
      return work([](V v) HWY_ATTR { return v; });
  }
}

// y = function(y) for `rows` rows of kVectors vectors, `step` floats apart. Four vectors at once:
// one after the other they would wait for the loop.
template <int kVectors, class Function>
HWY_INLINE void map_whole_rows(const Function& function, float* y, size_t step, size_t rows) {
  const D d;
  constexpr size_t kRows = 4 / kVectors;
  const auto map_row = [&](size_t r) HWY_ATTR {
#pragma GCC unroll 4
    for (size_t j = 0; j < kVectors; ++j) {
      const size_t at = r * step + j * hn::Lanes(d);
      hn::StoreU(function(hn::LoadU(d, y + at)), d, y + at);
    }
  };
  size_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) map_row(r + i);
  }
  for (; r < rows; ++r) map_row(r);
}

// The same for floats side by side.
template <class Function>
HWY_INLINE void map_adjacent(const Function& function, float* y, size_t count) {
  const D d;
  const size_t together = 2 * hn::Lanes(d), pairs = count / together;
  map_whole_rows<2>(function, y, together, pairs);
  for (size_t at = pairs * together; at < count; at += hn::Lanes(d)) {
    const size_t rest = HWY_MIN(hn::Lanes(d), count - at);
    store_first(d, function(load_first(d, rest, y + at)), rest, y + at);
  }
}

// The same for `columns` floats, + residual where not null. Rows that are no whole vectors, but
// side by side, are one: as many parts of vectors would each wait for the store before.
template <class Function>
HWY_INLINE void map_rows(const Function& function, float* y, const float* residual, size_t step,
                         size_t rows, size_t columns) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  if (!residual && columns == step && columns % lanes != 0) {
    return map_adjacent(function, y, rows * columns);
  }
  if (!residual && columns == lanes) {
    return map_whole_rows<1>(function, y, step, rows);
  }
  if (!residual && columns == 2 * lanes) {
    return map_whole_rows<2>(function, y, step, rows);
  }
  const size_t whole = columns - columns % lanes, rest = columns - whole;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t at = r * step; at < r * step + whole; at += lanes) {
      V v = function(hn::LoadU(d, y + at));
      if (residual) v = hn::Add(v, hn::LoadU(d, residual + at));
      hn::StoreU(v, d, y + at);
    }
  }
  // Afterwards, as what is loaded behind a partial store waits for it to be in L1: a row's rest
  // would keep the next row waiting.
  for (size_t r = 0; rest > 0 && r < rows; ++r) {
    const size_t at = r * step + whole;
    V v = function(load_first(d, rest, y + at));
    if (residual) v = hn::Add(v, load_first(d, rest, residual + at));
    store_first(d, v, rest, y + at);
  }
}

// A costly activation for what a kernel has just stored, while it is in L1. Not inlined, so that
// the kernel's own loop stays small.
inline HWY_NOINLINE void activate_rows(const Epilogue& e, float* y, const float* residual,
                                       size_t step, size_t rows, size_t columns) {
  with_activation(e, [&](const auto& function)
                         HWY_ATTR { map_rows(function, y, residual, step, rows, columns); });
}

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
