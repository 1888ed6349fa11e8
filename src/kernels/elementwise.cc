// Element by element: one to three loads and a store per vector, so bandwidth is the limit and
// nothing is tiled.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <cmath>

#include "kernels/activation-inl.h"
#include "kernels/elementwise.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

// Calls work with an epilogue as a function of a vector.
template <class Work>
HWY_INLINE void with_epilogue(const Epilogue& e, const Work& work) {
  const V lo = hn::Set(D(), e.lo), hi = hn::Set(D(), e.hi);
  with_activation(e, [&](const auto& function) HWY_ATTR {
    work([&](V v) HWY_ATTR { return function(clamp(v, lo, hi)); });
  });
}

void activate_all(const Epilogue& e, const float* x, float* y, size_t n) {
  with_epilogue(e, [&](const auto& apply) HWY_ATTR {
    for_vectors(
        n, [&](size_t i, size_t m) HWY_ATTR { store_some(apply(load_some(x + i, m)), m, y + i); });
  });
}

HWY_INLINE V exp(D d, V x) { return keep_nan(x, hn::Exp(d, hn::Min(x, hn::Set(d, 104.0f)))); }

HWY_INLINE V log(D d, V x) {
  const V zero = hn::Zero(d), infinity = hn::Inf(d);
  V y = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(infinity), hn::Log(d, x));
  y = hn::IfThenElse(hn::Eq(x, infinity), infinity, y);
  return keep_nan(x, hn::IfThenElse(hn::Lt(x, zero), hn::NaN(d), y));
}

// A sine or cosine, `near` of arguments for which vectors are exact, `any` of others.
template <class Near>
HWY_INLINE V periodic(V x, const Near& near, double (*any)(double)) {
  const D d;
  constexpr float kNear = 39000;
  if (hn::AllTrue(d, hn::Le(hn::Abs(x), hn::Set(d, kNear)))) return near(x);
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  hn::Store(x, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) {
    lanes[i] = static_cast<float>(any(static_cast<double>(lanes[i])));
  }
  return hn::Load(d, lanes);
}

void apply(Function function, const float* x, float* y, size_t n) {
  const D d;
  const auto all = [&](const auto& f) HWY_ATTR {
    for_vectors(n,
                [&](size_t i, size_t m) HWY_ATTR { store_some(f(load_some(x + i, m)), m, y + i); });
  };
  switch (function) {
    case Function::kAbs:
      return all([](V v) HWY_ATTR { return hn::Abs(v); });
    case Function::kCos:
      return all([d](V v) HWY_ATTR {
        return periodic(
            v, [d](V near) HWY_ATTR { return hn::Cos(d, near); }, std::cos);
      });
    case Function::kExp:
      return all([d](V v) HWY_ATTR { return exp(d, v); });
    case Function::kLog:
      return all([d](V v) HWY_ATTR { return log(d, v); });
    case Function::kReciprocal:
      return all([d](V v) HWY_ATTR { return hn::Div(hn::Set(d, 1.0f), v); });
    case Function::kSin:
      return all([d](V v) HWY_ATTR {
        return periodic(
            v, [d](V near) HWY_ATTR { return hn::Sin(d, near); }, std::sin);
      });
    case Function::kSqrt:
      return all([](V v) HWY_ATTR { return hn::Sqrt(v); });
  }
}

void add(const Epilogue& e, const float* a, const float* b, float* y, size_t n) {
  with_epilogue(e, [&](const auto& apply) HWY_ATTR {
    for_vectors(n, [&](size_t i, size_t m) HWY_ATTR {
      store_some(apply(hn::Add(load_some(a + i, m), load_some(b + i, m))), m, y + i);
    });
  });
}

void divide(const float* a, const float* b, float* y, size_t n) {
  for_vectors(n, [&](size_t i, size_t m) HWY_ATTR {
    store_some(hn::Div(load_some(a + i, m), load_some(b + i, m)), m, y + i);
  });
}

void scale_channels(const float* x, const float* s, float* y, size_t pixels, size_t channels) {
  for (size_t p = 0; p < pixels; ++p, x += channels, y += channels) {
    for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
      store_some(hn::Mul(load_some(x + c, m), load_some(s + c, m)), m, y + c);
    });
  }
}

void affine(const Epilogue& e, const float* x, const float* s, const float* b, float* y,
            size_t pixels, size_t channels) {
  with_epilogue(e, [&](const auto& apply) HWY_ATTR {
    for (size_t p = 0; p < pixels; ++p, x += channels, y += channels) {
      for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
        const V v = hn::MulAdd(load_some(x + c, m), load_some(s + c, m), load_some(b + c, m));
        store_some(apply(v), m, y + c);
      });
    }
  });
}

void prelu(const float* x, const float* slope, float* y, size_t pixels, size_t channels) {
  for (size_t p = 0; p < pixels; ++p, x += channels, y += channels) {
    for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
      store_some(leaky_relu(load_some(x + c, m), load_some(slope + c, m)), m, y + c);
    });
  }
}

void scale_pixels(const float* x, const float* factor, float* y, size_t pixels, size_t channels) {
  for (size_t p = 0; p < pixels; ++p, x += channels, y += channels) {
    const V all = broadcast(factor + p);
    for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
      store_some(hn::Mul(load_some(x + c, m), all), m, y + c);
    });
  }
}

void maximum(const float* a, const float* b, float* y, size_t n) {
  for_vectors(n, [&](size_t i, size_t m) HWY_ATTR {
    store_some(larger(load_some(a + i, m), load_some(b + i, m)), m, y + i);
  });
}

void choose(const float* map, const float* a, const float* b, float* y, size_t n) {
  const V zero = hn::Zero(D());
  for_vectors(n, [&](size_t i, size_t m) HWY_ATTR {
    const V first = load_some(a + i, m), second = load_some(b + i, m);
    store_some(hn::IfThenElse(hn::Ne(load_some(map + i, m), zero), first, second), m, y + i);
  });
}

const ElementwiseKernels& kernels() {
  static const ElementwiseKernels table = {hn::Lanes(D()), activate_all,   apply,  add,
                                           divide,         scale_channels, affine, prelu,
                                           scale_pixels,   maximum,        choose};
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
const ElementwiseKernels& elementwise_kernels() {
  return dispatched(HWY_DISPATCH_TABLE(kernels))();
}
}  // namespace sepconv
#endif
