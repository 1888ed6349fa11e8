// Element-wise loops, pools and softmax: one or two loads and a store per vector, so bandwidth is
// the limit and nothing is tiled.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_math.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <cmath>

#include "kernels/activation-inl.h"
#include "kernels/vector_math.h"

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

HWY_INLINE V larger(V a, V b) { return hn::IfThenElse(hn::Or(hn::Gt(b, a), hn::IsNaN(b)), b, a); }

// y[c] of N pixels: two or three, as most pools' windows have rows and columns.
template <int N, class Join, class Finish>
HWY_INLINE void join_pixels(const float* const* pixels, float* y, size_t channels, const Join& join,
                            const Finish& finish) {
  const float* p[N];
  for (int i = 0; i < N; ++i) p[i] = pixels[i];
  for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
    V v = load_some(p[0] + c, m);
#pragma GCC unroll 3
    for (int i = 1; i < N; ++i) v = join(v, load_some(p[i] + c, m));
    store_some(finish(v), m, y + c);
  });
}

void choose(const float* map, const float* a, const float* b, float* y, size_t n) {
  const V zero = hn::Zero(D());
  for_vectors(n, [&](size_t i, size_t m) HWY_ATTR {
    const V first = load_some(a + i, m), second = load_some(b + i, m);
    store_some(hn::IfThenElse(hn::Ne(load_some(map + i, m), zero), first, second), m, y + i);
  });
}

void max_pixels(const float* const* pixels, size_t count, float* y, size_t channels) {
  const auto more = [](V a, V b) HWY_ATTR { return larger(a, b); };
  const auto same = [](V v) HWY_ATTR { return v; };
  if (count == 2) return join_pixels<2>(pixels, y, channels, more, same);
  if (count == 3) return join_pixels<3>(pixels, y, channels, more, same);
  for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
    V best = load_some(pixels[0] + c, m);
    for (size_t p = 1; p < count; ++p) best = larger(best, load_some(pixels[p] + c, m));
    store_some(best, m, y + c);
  });
}

// Σ term(pixel) over pixels[begin, end) at channel c, in four sums that take the pixels in turns.
template <class Term>
HWY_INLINE V sum_part(const float* const* pixels, size_t begin, size_t end, size_t c, size_t m,
                      const Term& term) {
  V sum[4] = {hn::Zero(D()), hn::Zero(D()), hn::Zero(D()), hn::Zero(D())};
  size_t p = begin;
  for (; p + 4 <= end; p += 4) {
    for (size_t i = 0; i < 4; ++i) sum[i] = hn::Add(sum[i], term(load_some(pixels[p + i] + c, m)));
  }
  for (size_t i = 0; p < end; ++i, ++p) sum[i] = hn::Add(sum[i], term(load_some(pixels[p] + c, m)));
  return hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
}

// In parts, so that rounding errors do not grow with the length of one chain.
template <class Term>
HWY_INLINE void sum_terms(const float* const* pixels, size_t count, float scale, float* y,
                          size_t channels, const Term& term) {
  constexpr size_t kPart = 64;
  for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
    V total = hn::Zero(D()), parts = hn::Zero(D());
    for (size_t p = 0, n = 0; p < count; p += kPart) {
      parts = hn::Add(parts, sum_part(pixels, p, HWY_MIN(p + kPart, count), c, m, term));
      if (++n % 16 == 0) {
        total = hn::Add(total, parts);
        parts = hn::Zero(D());
      }
    }
    store_some(hn::Mul(hn::Add(total, parts), hn::Set(D(), scale)), m, y + c);
  });
}

void sum_pixels(const float* const* pixels, size_t count, float scale, float* y, size_t channels) {
  const auto sum = [](V a, V b) HWY_ATTR { return hn::Add(a, b); };
  const auto scaled = [scale](V v) HWY_ATTR { return hn::Mul(v, hn::Set(D(), scale)); };
  if (count == 2) return join_pixels<2>(pixels, y, channels, sum, scaled);
  if (count == 3) return join_pixels<3>(pixels, y, channels, sum, scaled);
  sum_terms(pixels, count, scale, y, channels, [](V v) HWY_ATTR { return v; });
}

// kVectors vectors of channels, m of the last one's lanes in use, of all pixels, in parts like
// those above: their values, or the squares of what these differ from `mean` by.
template <size_t kVectors, bool kSquares>
HWY_INLINE void sum_columns(const float* x, const float* mean, size_t pixels, float scale, float* y,
                            size_t channels, size_t m) {
  const D d;
  constexpr size_t kPart = 128;
  constexpr int kCount = static_cast<int>(kVectors);
  const size_t lanes = hn::Lanes(d);
  const auto used = [&](int v) { return v + 1 == kCount ? m : lanes; };
  V total[kVectors], centre[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v) {
    total[v] = hn::Zero(d);
    if (kSquares) centre[v] = load_some(mean + static_cast<size_t>(v) * lanes, used(v));
  }
  for (size_t p = 0; p < pixels;) {
    V sum[2][kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kCount; ++v) sum[0][v] = sum[1][v] = hn::Zero(d);
    const auto add = [&](V* sums) HWY_ATTR {
#pragma GCC unroll 4
      for (int v = 0; v < kCount; ++v) {
        const V value = load_some(x + static_cast<size_t>(v) * lanes, used(v));
        if (kSquares) {
          const V apart = hn::Sub(value, centre[v]);
          sums[v] = hn::MulAdd(apart, apart, sums[v]);
        } else {
          sums[v] = hn::Add(sums[v], value);
        }
      }
      x += channels;
    };
    const size_t end = HWY_MIN(p + kPart, pixels);
    for (; p + 2 <= end; p += 2) {
      add(sum[0]);
      add(sum[1]);
    }
    if (p < end) {
      add(sum[0]);
      ++p;
    }
#pragma GCC unroll 4
    for (int v = 0; v < kCount; ++v) {
      total[v] = hn::Add(total[v], hn::Add(sum[0][v], sum[1][v]));
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v) {
    store_some(hn::Mul(total[v], hn::Set(d, scale)), used(v), y + static_cast<size_t>(v) * lanes);
  }
}

// Calls work with how many vectors there are, up to four at a time, from channel c on and how many
// of the last one's lanes are in use.
template <class Work>
HWY_INLINE void for_columns(size_t channels, const Work& work) {
  const size_t lanes = hn::Lanes(D());
  for (size_t c = 0; c < channels; c += 4 * lanes) {
    const size_t left = HWY_MIN(channels - c, 4 * lanes), vectors = (left + lanes - 1) / lanes;
    const size_t m = left - (vectors - 1) * lanes;
    if (vectors == 4) work.template operator()<4>(c, m);
    if (vectors == 3) work.template operator()<3>(c, m);
    if (vectors == 2) work.template operator()<2>(c, m);
    if (vectors == 1) work.template operator()<1>(c, m);
  }
}

void sum_row(const float* x, size_t pixels, float scale, float* y, size_t channels) {
  for_columns(channels, [&]<size_t kVectors>(size_t c, size_t m) HWY_ATTR {
    sum_columns<kVectors, false>(x + c, nullptr, pixels, scale, y + c, channels, m);
  });
}

void squared_deviations(const float* x, const float* mean, size_t pixels, float* y,
                        size_t channels) {
  for_columns(channels, [&]<size_t kVectors>(size_t c, size_t m) HWY_ATTR {
    sum_columns<kVectors, true>(x + c, mean + c, pixels, 1.0f, y + c, channels, m);
  });
}

void sum_squares(const float* const* pixels, size_t count, float* y, size_t channels) {
  sum_terms(pixels, count, 1.0f, y, channels, [](V v) HWY_ATTR { return hn::Mul(v, v); });
}

void weighted_sum(const float* const* rows, const float* weights, size_t count, float* y,
                  size_t n) {
  const D d;
  for_vectors(n, [&](size_t i, size_t m) HWY_ATTR {
    V sum = hn::Mul(hn::Set(d, weights[0]), load_some(rows[0] + i, m));
    for (size_t r = 1; r < count; ++r) {
      sum = hn::MulAdd(hn::Set(d, weights[r]), load_some(rows[r] + i, m), sum);
    }
    store_some(sum, m, y + i);
  });
}

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

void sum_channels(const float* x, float scale, float* y, size_t pixels, size_t channels) {
  for (size_t p = 0; p < pixels; ++p, x += channels) {
    y[p] = scale * sum_of(x, channels, [](V v, size_t, size_t) HWY_ATTR { return v; });
  }
}

void max_channels(const float* x, float* y, size_t pixels, size_t channels) {
  const D d;
  HWY_ALIGN float lane[hn::MaxLanes(D())];
  for (size_t p = 0; p < pixels; ++p, x += channels) {
    V most = hn::Set(d, x[0]);
    for_vectors(channels, [&](size_t c, size_t m) HWY_ATTR {
      const V v = load_some(x + c, m);
      most = larger(most, m < hn::Lanes(d) ? hn::IfThenElse(hn::FirstN(d, m), v, most) : v);
    });
    hn::Store(most, d, lane);
    y[p] = lane[0];
    for (size_t i = 1; i < hn::Lanes(d); ++i) {
      if (lane[i] > y[p] || lane[i] != lane[i]) y[p] = lane[i];
    }
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

void interleave3(const float* const planes[3], float* y, size_t n) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreInterleaved3(hn::LoadU(d, planes[0] + i), hn::LoadU(d, planes[1] + i),
                          hn::LoadU(d, planes[2] + i), d, y + 3 * i);
  }
  for (; i < n; ++i) {
    for (size_t c = 0; c < 3; ++c) y[3 * i + c] = planes[c][i];
  }
}

// A polynomial in an odd number modulo 2^32, of each lane of four vectors; then of what these gave.
uint64_t fingerprint(const float* x, size_t n) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  using U = hn::Vec<decltype(du)>;
  const size_t lanes = hn::Lanes(d);
  const U odd = hn::Set(du, 0x9E3779B1u);
  constexpr size_t kVectors = 4;
  U state[kVectors] = {odd, odd, odd, odd};
  size_t i = 0;
  for (; i + kVectors * lanes <= n; i += kVectors * lanes) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      const U bits = hn::BitCast(du, hn::LoadU(d, x + i + v * lanes));
      state[v] = hn::Mul(hn::Xor(state[v], bits), odd);
    }
  }
  uint64_t sum = n;
  const auto mix = [&](uint32_t value) {
    sum = (sum ^ value) * 0x9E3779B97F4A7C15u;
    sum ^= sum >> 29;
  };
  HWY_ALIGN uint32_t values[hn::MaxLanes(D())];
  for (const U& s : state) {
    hn::Store(s, du, values);
    for (size_t l = 0; l < lanes; ++l) mix(values[l]);
  }
  for (; i < n; ++i) {
    uint32_t bits;
    hwy::CopyBytes<sizeof(bits)>(x + i, &bits);
    mix(bits);
  }
  return sum;
}

const VectorMathKernels& kernels() {
  static const VectorMathKernels table = {hn::Lanes(D()),
                                          activate_all,
                                          apply,
                                          add,
                                          divide,
                                          scale_channels,
                                          affine,
                                          prelu,
                                          scale_pixels,
                                          sum_channels,
                                          max_channels,
                                          normalize,
                                          choose,
                                          max_pixels,
                                          sum_pixels,
                                          sum_row,
                                          squared_deviations,
                                          sum_squares,
                                          weighted_sum,
                                          norm_pixels<true>,
                                          norm_pixels<false>,
                                          softmax,
                                          log_softmax,
                                          interleave3,
                                          fingerprint};
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
const VectorMathKernels& vector_math_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
