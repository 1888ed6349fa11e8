// Gradients through activations, and loops over pixels. Included once per target by the kernel
// files.
#if defined(SEPCONV_ACTIVATION_GRADIENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_ACTIVATION_GRADIENT_INL_H_
#undef SEPCONV_ACTIVATION_GRADIENT_INL_H_
#else
#define SEPCONV_ACTIVATION_GRADIENT_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {

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

struct ThroughLeakyRelu {
  V slope;
  explicit ThroughLeakyRelu(const Epilogue& e) : slope(hn::Set(D(), e.slope)) {}
  HWY_INLINE V value(V z) const { return leaky_relu(z, slope); }
  // The slope's at 0, as in PyTorch.
  HWY_INLINE V gradient(V z, V dy) const {
    return hn::IfThenElse(hn::Le(z, hn::Zero(D())), hn::Mul(dy, slope), dy);
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

struct ThroughHardSigmoid {
  explicit ThroughHardSigmoid(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return hardsigmoid(D(), z); }
  HWY_INLINE V gradient(V z, V dy) const {
    const D d;
    const auto outside = hn::Or(hn::Le(z, hn::Set(d, -3.0f)), hn::Ge(z, hn::Set(d, 3.0f)));
    return hn::IfThenZeroElse(outside, hn::Mul(dy, hn::Set(d, 1.0f / 6)));
  }
};

struct ThroughSigmoid {
  explicit ThroughSigmoid(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return sigmoid(D(), z); }
  // The factor 1 − s would be rounded like s, where that is nearly 1.
  HWY_INLINE V gradient(V z, V dy) const {
    const D d;
    return hn::Mul(hn::Mul(dy, sigmoid(d, z)), sigmoid(d, hn::Neg(z)));
  }
};

struct ThroughTanh {
  explicit ThroughTanh(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return tanh(D(), z); }
  HWY_INLINE V gradient(V z, V dy) const {
    const V y = tanh(D(), z);
    return hn::Mul(dy, hn::NegMulAdd(y, y, hn::Set(D(), 1.0f)));
  }
};

// alpha·exp z below 0.
struct ThroughElu {
  V alpha;
  explicit ThroughElu(const Epilogue& e) : alpha(hn::Set(D(), e.alpha)) {}
  HWY_INLINE V value(V z) const { return elu(D(), z, alpha); }
  HWY_INLINE V gradient(V z, V dy) const {
    const V slope = hn::Mul(alpha, exp_negated(D(), hn::Neg(z)));
    return hn::IfThenElse(hn::Le(z, hn::Zero(D())), hn::Mul(dy, slope), dy);
  }
};

struct ThroughSoftplus {
  explicit ThroughSoftplus(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return softplus(D(), z); }
  HWY_INLINE V gradient(V z, V dy) const { return hn::Mul(dy, sigmoid(D(), z)); }
};

// t + z·s·(1 − t²) with t = n / (n + 2) and z's sigmoid s; 1 − t² = 4·(n + 1) / (n + 2)².
struct ThroughMish {
  explicit ThroughMish(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return mish(D(), z); }
  HWY_INLINE V gradient(V z, V dy) const {
    const D d;
    const V n = mish_numerator(d, z),
            inverse = hn::Div(hn::Set(d, 1.0f), hn::Add(n, hn::Set(d, 2.0f)));
    const V rest =
        hn::Mul(hn::Mul(hn::MulAdd(n, hn::Set(d, 4.0f), hn::Set(d, 4.0f)), inverse), inverse);
    return hn::Mul(dy, hn::MulAdd(hn::Mul(z, sigmoid(d, z)), rest, hn::Mul(n, inverse)));
  }
};

// x·Φ(x): Φ(x) + x·φ(x).
struct ThroughGelu {
  explicit ThroughGelu(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return gelu(D(), z); }
  HWY_INLINE V gradient(V z, V dy) const {
    const D d;
    const V half = hn::Set(d, 0.5f);
    const V phi = hn::MulAdd(erf_of_root_half(d, hn::Abs(z)), hn::CopySign(half, z), half);
    const V density =
        hn::Mul(exp_negated(d, hn::Mul(hn::Mul(z, z), half)), hn::Set(d, 0.39894228040143268f));
    return hn::Mul(dy, hn::MulAdd(z, density, phi));
  }
};

// x·s(u) for u = 2√(2/π)·(x + 0.044715 x³): s + x·u'·s·(1 − s).
struct ThroughGeluTanh {
  explicit ThroughGeluTanh(const Epilogue&) {}
  HWY_INLINE V value(V z) const { return gelu_tanh(D(), z); }
  HWY_INLINE V gradient(V z, V dy) const {
    const D d;
    const V scale = hn::Set(d, 1.5957691216057308f), one = hn::Set(d, 1.0f);
    const V square = hn::Mul(z, z);
    const V u = hn::Mul(hn::Mul(scale, z), hn::MulAdd(square, hn::Set(d, 0.044715f), one));
    const V s = sigmoid(d, u), rest = sigmoid(d, hn::Neg(u));  // 1 − s, but not rounded like s
    const V slope = hn::Mul(scale, hn::MulAdd(square, hn::Set(d, 0.134145f), one));
    return hn::Mul(dy, hn::MulAdd(hn::Mul(z, slope), hn::Mul(s, rest), s));
  }
};

// Calls work with what goes through the activation.
template <class Work>
HWY_INLINE void through(const Epilogue& activation, const Work& work) {
  switch (activation.kind) {
    case ActivationKind::kLeakyRelu:
      return work(ThroughLeakyRelu(activation));
    case ActivationKind::kSilu:
      return work(ThroughSilu(activation));
    case ActivationKind::kHardSwish:
      return work(ThroughHardSwish(activation));
    case ActivationKind::kHardSigmoid:
      return work(ThroughHardSigmoid(activation));
    case ActivationKind::kSigmoid:
      return work(ThroughSigmoid(activation));
    case ActivationKind::kGelu:
      return work(ThroughGelu(activation));
    case ActivationKind::kGeluTanh:
      return work(ThroughGeluTanh(activation));
    case ActivationKind::kTanh:
      return work(ThroughTanh(activation));
    case ActivationKind::kElu:
      return work(ThroughElu(activation));
    case ActivationKind::kSoftplus:
      return work(ThroughSoftplus(activation));
    case ActivationKind::kMish:
      return work(ThroughMish(activation));
    default:
      return work(ThroughClamp(activation));
  }
}

// Calls work.run<kCount, whether that is less than a vector>(a, pixel, first channel, how many) for
// every vector of channels, for kCount pixels from `pixel` on.
template <size_t kCount, class Pixels, class Work>
HWY_INLINE void each_vector(const Pixels& a, size_t pixel, const Work& work) {
  const size_t lanes = hn::Lanes(D());
  size_t c = 0;
  for (; c + lanes <= a.channels; c += lanes) work.template run<kCount, false>(a, pixel, c, lanes);
  if (c < a.channels) work.template run<kCount, true>(a, pixel, c, a.channels - c);
}

// The same for all pixels, some at a time.
template <class Pixels, class Work>
HWY_INLINE void each_pixel(const Pixels& args, const Work& work) {
  constexpr size_t kPixels = 4;
  const Pixels a = args;
  size_t p = 0;
  for (; p + kPixels <= a.pixels; p += kPixels) each_vector<kPixels>(a, p, work);
  for (; p < a.pixels; ++p) each_vector<1>(a, p, work);
}

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
