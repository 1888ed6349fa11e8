// The gradient of an activation behind a convolution, and of the bias before it: g = dy ·
// activation'(z) and its sums by channel, in one pass over memory.
//
//        pixel p   ┌ c0 c1 c2 … ┐                     plane of one channel
//        pixel p+1 ├ c0 c1 c2 … ┤  -> sum[c0], …      p0 p1 p2 p3 …  -> four vectors of sums
//             ⋮    └     ⋮      ┘
//
// Two to thirty flops for 12 bytes: memory's speed is the limit.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation_gradient.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>

#include "kernels/activation_gradient-inl.h"
#include "kernels/activation_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

struct SumsOfGradient {
  float* to;
  template <size_t kCount, bool kPartial>
  HWY_INLINE void run(const ActivationPixels& a, size_t pixel, size_t c, size_t n) const {
    V sum = load_lanes<kPartial>(to + c, n);
#pragma GCC unroll 4
    for (size_t i = 0; i < kCount; ++i) {
      sum = hn::Add(sum, load_lanes<kPartial>(a.dy + (pixel + i) * a.channels + c, n));
    }
    store_lanes<kPartial>(sum, n, to + c);
  }
};

template <class Through>
struct GradientAndSums {
  Through act;
  float* to;
  template <size_t kCount, bool kPartial>
  HWY_INLINE void run(const ActivationPixels& a, size_t pixel, size_t c, size_t n) const {
    V sum = load_lanes<kPartial>(to + c, n);
#pragma GCC unroll 4
    for (size_t i = 0; i < kCount; ++i) {
      const size_t at = (pixel + i) * a.channels + c;
      const V g =
          act.gradient(load_lanes<kPartial>(a.z + at, n), load_lanes<kPartial>(a.dy + at, n));
      sum = hn::Add(sum, g);
      store_lanes<kPartial>(g, n, a.g + at);
    }
    store_lanes<kPartial>(sum, n, to + c);
  }
};

void pixels(const ActivationPixels& a, float* sums) {
  std::fill_n(sums, a.channels, 0.0f);
  if (a.g == nullptr) return each_pixel(a, SumsOfGradient{sums});
  through(a.activation, [&]<class Through>(const Through& act) HWY_ATTR {
    each_pixel(a, GradientAndSums<Through>{act, sums});
  });
}

// g(i, lanes in use) for every vector of n; what it gives is added up.
template <class Gradient>
HWY_INLINE float sum_of(size_t n, const Gradient& gradient) {
  constexpr size_t kSums = 4;
  const D d;
  const size_t lanes = hn::Lanes(d);
  V sum[kSums];
  std::fill(sum, sum + kSums, hn::Zero(d));
  size_t i = 0;
  for (; i + kSums * lanes <= n; i += kSums * lanes) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) sum[s] = hn::Add(sum[s], gradient(i + s * lanes, lanes));
  }
  for (; i < n; i += lanes) sum[0] = hn::Add(sum[0], gradient(i, HWY_MIN(lanes, n - i)));
  const V all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  return hn::GetLane(hn::SumOfLanes(d, all));
}

float plane(const ActivationPixels& args) {
  const ActivationPixels a = args;
  if (a.g == nullptr) {
    return sum_of(a.pixels, [&](size_t i, size_t n) HWY_ATTR { return load_some(a.dy + i, n); });
  }
  float sum = 0;
  through(a.activation, [&](const auto& act) HWY_ATTR {
    sum = sum_of(a.pixels, [&](size_t i, size_t n) HWY_ATTR {
      const V g = act.gradient(load_some(a.z + i, n), load_some(a.dy + i, n));
      store_some(g, n, a.g + i);
      return g;  // lanes that do not exist have dy = 0
    });
  });
  return sum;
}

const ActivationGradientKernels& kernels() {
  static const ActivationGradientKernels table = {pixels, plane};
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
const ActivationGradientKernels& activation_gradient_kernels() {
  return dispatched(HWY_DISPATCH_TABLE(kernels))();
}
}  // namespace sepconv
#endif
