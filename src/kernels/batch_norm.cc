// Sums by channel over pixels, and the gradient through a batch norm and an activation, in NHWC.
//
// In the order of memory, kPixels pixels at a time; sums by channel stay in L1:
//
//        pixel p   ┌ c0 c1 c2 … ┐
//        pixel p+1 ├ c0 c1 c2 … ┤   ->  sum[c0], sum[c1], …
//             ⋮    └     ⋮      ┘
//
// One to ten flops per float: memory's speed is the limit.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/batch_norm.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/activation_gradient-inl.h"
#include "kernels/batch_norm.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

// Past the caches, if kStream, where the vector is whole.
template <bool kPartial, bool kStream>
HWY_INLINE void store_result(V v, size_t n, float* p) {
  if (kStream && !kPartial) {
    hn::Stream(v, D(), p);
  } else {
    store_lanes<kPartial>(v, n, p);
  }
}

template <class Through>
struct GradientSums {
  Through through;
  float *of_g, *of_product;
  template <size_t kCount, bool kPartial>
  HWY_INLINE void run(const BatchNormPixels& a, size_t pixel, size_t c, size_t n) const {
    const V mean = load_lanes<kPartial>(a.mean + c, n),
            scale = load_lanes<kPartial>(a.scale + c, n);
    const V shift = load_lanes<kPartial>(a.shift + c, n);
    V sum = load_lanes<kPartial>(of_g + c, n), products = load_lanes<kPartial>(of_product + c, n);
#pragma GCC unroll 4
    for (size_t i = 0; i < kCount; ++i) {
      const size_t at = (pixel + i) * a.channels + c;
      const V x = load_lanes<kPartial>(a.x + at, n);
      const V g = through.gradient(hn::MulAdd(x, scale, shift), load_lanes<kPartial>(a.dy + at, n));
      sum = hn::Add(sum, g);
      products = hn::MulAdd(g, hn::Sub(x, mean), products);
    }
    store_lanes<kPartial>(sum, n, of_g + c);
    store_lanes<kPartial>(products, n, of_product + c);
  }
};

template <class Through, bool kStream>
struct Normalize {
  Through through;
  float* y;
  template <size_t kCount, bool kPartial>
  HWY_INLINE void run(const BatchNormPixels& a, size_t pixel, size_t c, size_t n) const {
    const V scale = load_lanes<kPartial>(a.scale + c, n);
    const V shift = load_lanes<kPartial>(a.shift + c, n);
#pragma GCC unroll 4
    for (size_t i = 0; i < kCount; ++i) {
      const size_t at = (pixel + i) * a.channels + c;
      const V z = hn::MulAdd(load_lanes<kPartial>(a.x + at, n), scale, shift);
      store_result<kPartial, kStream>(through.value(z), n, y + at);
    }
  }
};

template <class Through, bool kStream>
struct InputGradient {
  Through through;
  const float *slope, *level;
  float* dx;
  template <size_t kCount, bool kPartial>
  HWY_INLINE void run(const BatchNormPixels& a, size_t pixel, size_t c, size_t n) const {
    const V mean = load_lanes<kPartial>(a.mean + c, n),
            scale = load_lanes<kPartial>(a.scale + c, n);
    const V shift = load_lanes<kPartial>(a.shift + c, n), k = load_lanes<kPartial>(slope + c, n);
    const V l = load_lanes<kPartial>(level + c, n);
#pragma GCC unroll 4
    for (size_t i = 0; i < kCount; ++i) {
      const size_t at = (pixel + i) * a.channels + c;
      const V x = load_lanes<kPartial>(a.x + at, n);
      const V g = through.gradient(hn::MulAdd(x, scale, shift), load_lanes<kPartial>(a.dy + at, n));
      const V centred = hn::Sub(hn::NegMulAdd(hn::Sub(x, mean), k, g), l);
      store_result<kPartial, kStream>(hn::Mul(scale, centred), n, dx + at);
    }
  }
};

void gradient_sums(const BatchNormPixels& a, float* of_g, float* of_product) {
  std::fill_n(of_g, a.channels, 0.0f);
  std::fill_n(of_product, a.channels, 0.0f);
  through(a.activation, [&]<class Through>(const Through& act) HWY_ATTR {
    each_pixel(a, GradientSums<Through>{act, of_g, of_product});
  });
}

void normalize(const BatchNormPixels& a, float* y) {
  through(a.activation, [&]<class Through>(const Through& act) HWY_ATTR {
    if (!a.streams) return each_pixel(a, Normalize<Through, false>{act, y});
    each_pixel(a, Normalize<Through, true>{act, y});
    hwy::FlushStream();
  });
}

void input_gradient(const BatchNormPixels& a, const float* slope, const float* level, float* dx) {
  through(a.activation, [&]<class Through>(const Through& act) HWY_ATTR {
    if (!a.streams) return each_pixel(a, InputGradient<Through, false>{act, slope, level, dx});
    each_pixel(a, InputGradient<Through, true>{act, slope, level, dx});
    hwy::FlushStream();
  });
}

const BatchNormKernels& kernels() {
  static const BatchNormKernels table = {normalize, gradient_sums, input_gradient};
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
const BatchNormKernels& batch_norm_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
