// The end of a sum of any kernel. Included once per target by the kernel files.
#if defined(SEPCONV_EPILOGUE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_EPILOGUE_INL_H_
#undef SEPCONV_EPILOGUE_INL_H_
#else
#define SEPCONV_EPILOGUE_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/epilogue.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {

// Clamp and residual, if it is not null, of n lanes of a sum with its bias, then their store.
HWY_INLINE void store_finished(const Epilogue& e, V sum, const float* residual, size_t n,
                               float* to) {
  const V add = residual ? load_some(residual, n) : hn::Zero(D());
  if (residual && e.residual_first) sum = hn::Add(sum, add);
  sum = clamp(sum, broadcast(&e.lo), broadcast(&e.hi));
  if (residual && !e.residual_first) sum = hn::Add(sum, add);
  store_some(sum, n, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
