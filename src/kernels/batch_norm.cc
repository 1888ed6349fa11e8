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

#include "kernels/activation-inl.h"
#include "kernels/batch_norm.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kPixels = 4;

// value(z): the activation's; gradient(z, dy): dy times its derivative at z.
struct ThroughClamp {
  V lo, hi;
  explicit ThroughClamp(const Epilogue& e) : lo(hn::Set(D(), e.lo)), hi(hn::Set(D(), e.hi)) {}
  HWY_INLINE V value(V z) const { return clamp(z, lo, hi); }
  // Nothing passes at the ends, as in PyTorch; NaN does, and infinity where there is no upper end.
  HWY_INLINE V gradient(V z, V dy) const {
    const auto below = hn::Le(z, lo);
    const auto above = hn::And(hn::Ge(z, hi), hn::Lt(hi, hn::Inf(D())));
    return hn::IfThenZeroElse(hn::Or(below, above), dy);
  }
};

struct ThroughSilu {
  explicit ThroughSilu(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return silu(D(), z); }
  HWY_INLINE V gradient(V z, V dy) const {
    const D d;
    const V one = hn::Set(d, 1.0f), s = sigmoid(d, z);
    return hn::Mul(hn::Mul(dy, s), hn::MulAdd(z, hn::Sub(one, s), one));
  }
};

struct ThroughHardSwish {
  explicit ThroughHardSwish(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return hn::Mul(z, hardsigmoid(D(), z)); }
  HWY_INLINE V gradient(V z, V dy) const {
    const D d;
    const V slope = hn::MulAdd(z, hn::Set(d, 1.0f / 3), hn::Set(d, 0.5f));
    const V inside = hn::IfThenElse(hn::Gt(z, hn::Set(d, 3.0f)), dy, hn::Mul(dy, slope));
    return hn::IfThenZeroElse(hn::Le(z, hn::Set(d, -3.0f)), inside);
  }
};

// Calls work(through, first channel, how many, whether that is less than a vector) for every vector
// of channels, for kCount pixels from `pixel` on.
template <size_t kCount, class Work>
HWY_INLINE void each_vector(const BatchNormPixels& a, size_t pixel, const Work& work) {
  const size_t lanes = hn::Lanes(D());
  size_t c = 0;
  for (; c + lanes <= a.channels; c += lanes) work.template run<kCount, false>(a, pixel, c, lanes);
  if (c < a.channels) work.template run<kCount, true>(a, pixel, c, a.channels - c);
}

template <class Work>
HWY_INLINE void each_pixel(const BatchNormPixels& args, const Work& work) {
  const BatchNormPixels a = args;
  size_t p = 0;
  for (; p + kPixels <= a.pixels; p += kPixels) each_vector<kPixels>(a, p, work);
  for (; p < a.pixels; ++p) each_vector<1>(a, p, work);
}

// Past the caches, if kStream, where the vector is whole.
template <bool kPartial, bool kStream>
HWY_INLINE void store_result(V v, size_t n, float* p) {
  if (kStream && !kPartial) {
    hn::Stream(v, D(), p);
  } else {
    store_lanes<kPartial>(v, n, p);
  }
}

struct SquaredDeviations {
  float* to;
  template <size_t kCount, bool kPartial>
  HWY_INLINE void run(const BatchNormPixels& a, size_t pixel, size_t c, size_t n) const {
    const V mean = load_lanes<kPartial>(a.mean + c, n);
    V sum = load_lanes<kPartial>(to + c, n);
#pragma GCC unroll 4
    for (size_t i = 0; i < kCount; ++i) {
      const V x = load_lanes<kPartial>(a.x + (pixel + i) * a.channels + c, n);
      const V from_mean = hn::Sub(x, mean);
      sum = hn::MulAdd(from_mean, from_mean, sum);
    }
    store_lanes<kPartial>(sum, n, to + c);
  }
};

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

void squared_deviations(const BatchNormPixels& a, float* to) {
  std::fill_n(to, a.channels, 0.0f);
  each_pixel(a, SquaredDeviations{to});
}

// Calls work with what goes through the activation.
template <class Work>
void through(const Epilogue& activation, const Work& work) {
  switch (activation.kind) {
    case ActivationKind::kSilu:
      return work(ThroughSilu(activation));
    case ActivationKind::kHardSwish:
      return work(ThroughHardSwish(activation));
    default:
      return work(ThroughClamp(activation));
  }
}

void gradient_sums(const BatchNormPixels& a, float* of_g, float* of_product) {
  std::fill_n(of_g, a.channels, 0.0f);
  std::fill_n(of_product, a.channels, 0.0f);
  through(a.activation, [&](const auto& act) HWY_ATTR {
    each_pixel(a, GradientSums{act, of_g, of_product});
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
  static const BatchNormKernels table = {normalize, squared_deviations, gradient_sums,
                                         input_gradient};
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
