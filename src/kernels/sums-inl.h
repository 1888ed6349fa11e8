// Sums over contiguous floats. Included once per target by the kernel files.
#if defined(SEPCONV_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_SUMS_INL_H_
#undef SEPCONV_SUMS_INL_H_
#else
#define SEPCONV_SUMS_INL_H_
#endif

#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {

// Σ term(vector, index, lanes that count) over n floats, in four sums that take the vectors in
// turns; those that are left go into the first.
template <class Term>
HWY_INLINE float sum_of(const float* x, size_t n, const Term& term) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  V sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) {
      const size_t at = i + j * lanes;
      sum[j] = hn::Add(sum[j], term(hn::LoadU(d, x + at), at, lanes));
    }
  }
  for (; i + lanes <= n; i += lanes) {
    sum[0] = hn::Add(sum[0], term(hn::LoadU(d, x + i), i, lanes));
  }
  if (i < n) {
    const V v = term(load_first(d, n - i, x + i), i, n - i);
    sum[0] = hn::Add(sum[0], hn::IfThenElseZero(hn::FirstN(d, n - i), v));
  }
  const V all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  return hn::GetLane(hn::SumOfLanes(d, all));
}

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
