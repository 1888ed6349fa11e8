// Depthwise convolution of one plane, width fastest. Output columns are the vector's lanes:
//
//      row ky:  [ x … x+L ) [ x+L … x+2L ) …      up to four vectors of output at a time;
//      tap kx:  the same, shifted by tap_offset   one weight, broadcast, for all of them
//
// The caller has copied the rows with their padding and, for stride S, split them into S phases, so
// that every tap reads consecutive floats and no border needs a case of its own.
// Per tap and vector: one FMA for one (L1) load: 2·L flops for 4·L bytes. The sum of one element
// takes taps in row-major order, then the bias.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise_nchw.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/activation-inl.h"
#include "kernels/depthwise.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

template <int NV>
HWY_INLINE void block(const DepthwisePlaneRow& a, size_t x, size_t columns) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  V sum[NV];
  for (V& s : sum) s = hn::Zero(d);
  const float* w = a.weights;
  for (size_t ky = 0; ky < a.taps_y; ++ky, w += a.taps_x) {
    const float* row = a.in[ky];
    if (!row) continue;
    for (size_t kx = 0; kx < a.taps_x; ++kx) {
      const V weight = hn::Set(d, w[kx]);
      const float* p = row + a.tap_offset[kx] + x;
#pragma GCC unroll 8
      for (size_t j = 0; j < NV; ++j)
        sum[j] = hn::MulAdd(hn::LoadU(d, p + j * lanes), weight, sum[j]);
    }
  }
  const V bias = hn::Set(d, a.bias);
  const V lo = hn::Set(d, a.epilogue.lo), hi = hn::Set(d, a.epilogue.hi);
  for (size_t j = 0; j < NV; ++j) {
    const size_t n = HWY_MIN(lanes, columns - j * lanes);
    V v = clamp(hn::Add(sum[j], bias), lo, hi);
    if (a.epilogue.kind != ActivationKind::kNone) v = activate(d, a.epilogue.kind, v);
    if (n == lanes) {
      hn::StoreU(v, d, a.out + x + j * lanes);
    } else {
      store_first(d, v, n, a.out + x + j * lanes);
    }
  }
}

void row(const DepthwisePlaneRow& a) {
  const size_t lanes = hn::Lanes(D());
  for (size_t x = 0; x < a.out_width;) {
    const size_t rest = a.out_width - x;
    const size_t vectors = HWY_MIN(size_t{4}, (rest + lanes - 1) / lanes);
    switch (vectors) {
      case 4:
        block<4>(a, x, rest);
        break;
      case 3:
        block<3>(a, x, rest);
        break;
      case 2:
        block<2>(a, x, rest);
        break;
      default:
        block<1>(a, x, rest);
    }
    x += vectors * lanes;
  }
}

const DepthwiseNchwKernels& kernels() {
  static const DepthwiseNchwKernels table = {hn::Lanes(D()), hn::Lanes(D()), row};
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
const DepthwiseNchwKernels& depthwise_nchw_kernels() {
  return dispatched(HWY_DISPATCH_TABLE(kernels))();
}
}  // namespace sepconv
#endif
