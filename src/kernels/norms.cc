// Norms and softmax over a pixel's channels: two or three looks at what is in L1 after the first.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norms.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <cmath>

#include "kernels/activation-inl.h"
#include "kernels/norms.h"
#include "kernels/sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

// Less their mean if kCentred.
template <bool kCentred>
void norm_pixels(const float* x, const float* weight, const float* bias, float epsilon, float* y,
                 size_t pixels, size_t channels) {
  const D d;
  V mean = hn::Zero(d);
  for (size_t p = 0; p < pixels; ++p, x += channels, y += channels) {
    if constexpr (kCentred) {
      const float sum = sum_of(x, channels, [](V v, size_t, size_t) HWY_ATTR { return v; });
      mean = hn::Set(d, sum / static_cast<float>(channels));
    }
    const float squares = sum_of(x, channels, [&](V v, size_t, size_t) HWY_ATTR {
      const V apart = kCentred ? hn::Sub(v, mean) : v;
      return hn::Mul(apart, apart);
    });
    const float variance = squares / static_cast<float>(channels);
    const V scale = hn::Set(d, 1.0f / std::sqrt(variance + epsilon));
    for_vectors(channels, [&](size_t i, size_t m) HWY_ATTR {
      const V v = load_some(x + i, m);
      const V normal = hn::Mul(kCentred ? hn::Sub(v, mean) : v, scale);
      store_some(hn::MulAdd(normal, load_some(weight + i, m), load_some(bias + i, m)), m, y + i);
    });
  }
}

void normalize(const float* x, float least, float* y, size_t pixels, size_t channels) {
  for (size_t p = 0; p < pixels; ++p, x += channels, y += channels) {
    const float squares =
        sum_of(x, channels, [](V v, size_t, size_t) HWY_ATTR { return hn::Mul(v, v); });
    const float norm = std::sqrt(squares);
    const V divisor = hn::Set(D(), norm < least ? least : norm);
    for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
      store_some(hn::Div(load_some(x + c, m), divisor), m, y + c);
    });
  }
}

// In every lane; where NaN is among them, any of them.
HWY_INLINE V largest(const float* x, size_t n) {
  const D d;
  V most = hn::Set(d, x[0]);
  for_vectors(n, [&](size_t i, size_t m) HWY_ATTR {
    const V v = load_some(x + i, m);
    most = hn::Max(most, m < hn::Lanes(d) ? hn::IfThenElse(hn::FirstN(d, m), v, most) : v);
  });
  return hn::MaxOfLanes(d, most);
}

// exp z for z ≤ 0: what is lost against the highest value is nothing, not the least normal number.
HWY_INLINE V share(V z) {
  const D d;
  const V e = hn::IfThenElseZero(hn::Gt(z, hn::Set(d, -87.0f)), exp_negated(d, hn::Neg(z)));
  return keep_nan(z, e);
}

// NaN anywhere makes every result NaN, as the sum does.
void softmax(const float* x, float* y, size_t n) {
  const D d;
  const V shift = largest(x, n);
  const float sum = sum_of(x, n, [&](V v, size_t i, size_t m) HWY_ATTR {
    const V result = share(hn::Sub(v, shift));
    store_some(result, m, y + i);
    return result;
  });
  const V scale = hn::Set(d, 1.0f / sum);
  for_vectors(n, [&](size_t i, size_t m)
                     HWY_ATTR { store_some(hn::Mul(load_some(y + i, m), scale), m, y + i); });
}

void log_softmax(const float* x, float* y, size_t n) {
  const V shift = largest(x, n);
  const float sum =
      sum_of(x, n, [&](V v, size_t, size_t) HWY_ATTR { return share(hn::Sub(v, shift)); });
  const V less = hn::Set(D(), std::log(sum));
  for_vectors(n, [&](size_t i, size_t m) HWY_ATTR {
    store_some(hn::Sub(hn::Sub(load_some(x + i, m), shift), less), m, y + i);
  });
}

const NormKernels& kernels() {
  static const NormKernels table = {norm_pixels<true>, norm_pixels<false>, normalize, softmax,
                                    log_softmax};
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
const NormKernels& norm_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
