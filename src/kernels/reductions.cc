// Sums and maxima over pixels or channels: a load and an addition per vector, so bandwidth is the
// limit. Sums are taken in parts, so that rounding errors do not grow with the length of one chain.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/reductions.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/reductions.h"
#include "kernels/sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

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

const ReductionKernels& kernels() {
  static const ReductionKernels table = {max_pixels,         sum_pixels,   sum_row,
                                         squared_deviations, sum_squares,  weighted_sum,
                                         sum_channels,       max_channels, fingerprint};
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
const ReductionKernels& reduction_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
