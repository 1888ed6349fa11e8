// Rows prepared for products in pairs (paired.h): what a row's pairs have too much and its mean
// square, then its values, scaled, in blocks. Four rows at a time, as every sum by itself would
// wait for the one before:
//
//      row 0   │ first │ second │ third │     of each, a vector of triples at a time:
//      row 1   │       │        │       │     squares += first² + second² + third²
//      row 2   │       │        │       │     pairs += first·second
//      row 3   │       │        │       │     and then each, times the row's factor, to its block
//
// 11 flops and two reads for every three values, one of them from L1, and one write: the stores are
// the limit.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/paired_rows.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/paired_rows.h"

#include <algorithm>
#include <cstring>

#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kBlock = PairedRows::kBlock, kBlockFloats = PairedRows::kBlockFloats;

// The first n values of R rows from k on, at most a vector of them, times their scale if kScaled;
// the other lanes are zero.
template <int R, bool kScaled>
struct Values {
  const float* x[R];
  const float* scale;

  HWY_INLINE V load(int r, size_t k, size_t n) const {
    const V v = load_first(D(), n, x[r] + k);
    return kScaled ? hn::Mul(v, load_first(D(), n, scale + k)) : v;
  }
};

// `count` values, at most a block's, times the factor of vector i of row r, and then zeros.
template <int R, bool kScaled, class Factor>
HWY_INLINE void copy_values(const Values<R, kScaled>& values, size_t k, size_t count,
                            const Factor& factor, float* to, size_t step) {
  const D d;
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    const size_t n = HWY_MIN(hn::Lanes(d), count - HWY_MIN(i, count));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const V v = values.load(r, k + i, n);
      hn::Store(hn::Mul(v, factor(i, r)), d, to + static_cast<size_t>(r) * step + i);
    }
  }
}

// The inverse of a power of two.
HWY_INLINE V inverse_of(const float* power) {
  const hn::RebindToSigned<D> di;
  return hn::BitCast(D(), hn::Sub(hn::Set(di, 254 << 23), hn::BitCast(di, broadcast(power))));
}

// Rows from `row` on of those prepared.
template <int R, bool kScaled>
HWY_INLINE void copy_pairs(const PairedPreparation& p, const Values<R, kScaled>& values,
                           size_t row) {
  V factors[R], alternating[R];
  for (int r = 0; r < R; ++r) {
    factors[r] = inverse_of(p.unscale + row + r);
    alternating[r] = hn::OddEven(hn::Neg(factors[r]), factors[r]);
  }
  const auto factor = [&](size_t, int r) HWY_ATTR { return factors[r]; };
  // Every second triple's first value is negated.
  const auto first_factor = [&](size_t i, int r) HWY_ATTR {
    return hn::Lanes(D()) == 1 && i % 2 == 1 ? hn::Neg(factors[r]) : alternating[r];
  };
  const size_t t = p.to.order.triples, step = p.to.block_step();
  const size_t end = HWY_MIN(t, p.to.end * kBlock);
  float* to = p.prepared + row * kBlockFloats;
  for (size_t i = p.to.begin * kBlock; i < end; i += kBlock, to += step) {
    const size_t count = HWY_MIN(kBlock, t - i);
    copy_values(values, i, count, first_factor, to, kBlockFloats);
    copy_values(values, t + i, count, factor, to + kBlock, kBlockFloats);
    copy_values(values, 2 * t + i, count, factor, to + 2 * kBlock, kBlockFloats);
  }
  if (p.to.has_singles()) {
    float* const rest = p.prepared + p.to.offset(p.to.end, row);
    copy_values(values, 3 * t, p.to.order.singles, factor, rest, kBlock);
  }
}

// A row's values, times their scale.
struct RowValues {
  const float *x, *scale;

  float operator[](size_t k) const { return scale ? x[k] * scale[k] : x[k]; }
  bool all_zero(size_t count) const {
    size_t k = 0;
    while (k < count && (*this)[k] == 0.0F) ++k;
    return k == count;
  }
};

// copy_pairs for products that are all single.
void copy_singles(const PairedPreparation& p, const RowValues& values, size_t row) {
  const size_t t = p.to.order.triples, end = HWY_MIN(t, p.to.end * kBlock);
  const float factor = 1 / p.unscale[row];
  for (size_t i = p.to.begin * kBlock; i < end; ++i) {
    float* const triple = p.prepared + p.to.offset(i / kBlock, row) + 3 * (i % kBlock);
    for (size_t part = 0; part < 3; ++part) triple[part] = values[part * t + i] * factor;
    if (i % 2 == 1) triple[0] = -triple[0];
  }
  if (!p.to.has_singles()) return;
  float* const rest = p.prepared + p.to.offset(p.to.end, row);
  for (size_t i = 0; i < p.to.order.singles; ++i) rest[i] = values[3 * t + i] * factor;
}

// The sums of four vectors' lanes; with kAlternating those of even ones less those of odd ones.
#if HWY_TARGET == HWY_SCALAR
template <bool kAlternating>
HWY_INLINE void sum_lanes(const V (&v)[4], float* to) {
  for (size_t i = 0; i < 4; ++i) to[i] = hn::GetLane(v[i]);
}
#else
template <class D1>
HWY_INLINE void store_sum_of_blocks(D1 d, hn::Vec<D1> v, float* to) {
  if constexpr (hn::MaxLanes(D1()) > 4) {
    const hn::Half<D1> half;
    store_sum_of_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), to);
  } else {
    hn::Store(v, d, to);
  }
}

HWY_INLINE V sum_interleaved(V a, V b) {
  return hn::Add(hn::InterleaveLower(D(), a, b), hn::InterleaveUpper(D(), a, b));
}

template <bool kAlternating>
HWY_INLINE void sum_lanes(const V (&v)[4], float* to) {
  const V a = sum_interleaved(v[0], v[2]), b = sum_interleaved(v[1], v[3]);
  const V even = hn::InterleaveLower(D(), a, b), odd = hn::InterleaveUpper(D(), a, b);
  store_sum_of_blocks(D(), kAlternating ? hn::Sub(even, odd) : hn::Add(even, odd), to);
}
#endif

// Of rows: the mean square, and the sum of the pairs' products.
struct Known {
  HWY_ALIGN float square[kMostPrepared];
  HWY_ALIGN float pairs[kMostPrepared];
};

// The squares and the products of pairs of four rows: of fewer, every sum would wait for the one
// before. Every second pair's first value will be negated.
template <class Rows>
HWY_INLINE void sum_four(const Rows& values, const PairedOrder& order, float* square, float* pair) {
  const D d;
  const size_t t = order.triples, lanes = hn::Lanes(d);
  V squares[4], pairs[4];
  for (int r = 0; r < 4; ++r) squares[r] = pairs[r] = hn::Zero(d);
  for (size_t i = 0; i < t; i += lanes) {
    const size_t n = HWY_MIN(lanes, t - i);
    const bool odd = lanes == 1 && i % 2 == 1;
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const V first = values.load(r, i, n), second = values.load(r, t + i, n);
      const V third = values.load(r, 2 * t + i, n);
      squares[r] = hn::MulAdd(first, first, squares[r]);
      squares[r] = hn::MulAdd(second, second, squares[r]);
      squares[r] = hn::MulAdd(third, third, squares[r]);
      pairs[r] = hn::MulAdd(odd ? hn::Neg(first) : first, second, pairs[r]);
    }
  }
  for (size_t i = 0; i < order.singles; i += lanes) {
    const size_t n = HWY_MIN(lanes, order.singles - i);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const V single = values.load(r, 3 * t + i, n);
      squares[r] = hn::MulAdd(single, single, squares[r]);
    }
  }
  sum_lanes<false>(squares, square);
  sum_lanes<true>(pairs, pair);
}

template <bool kScaled>
HWY_INLINE void sum_rows(const PairedPreparation& p, Known& known) {
  const size_t last = p.count - 1;
  for (size_t i = 0; i < p.count; i += 4) {
    const Values<4, kScaled> values{{p.row[i], p.row[HWY_MIN(i + 1, last)],
                                     p.row[HWY_MIN(i + 2, last)], p.row[HWY_MIN(i + 3, last)]},
                                    p.scale};
    sum_four(values, p.to.order, known.square + i, known.pairs + i);
  }
}

// As if all rows fits_pairs; returns whether they do. Their scale is paired_scale's.
HWY_INLINE bool scale_rows(const PairedPreparation& p, Known& known) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto bias = hn::Set(di, 127);
  const V per_product = hn::Set(d, 1.0F / static_cast<float>(p.to.order.products()));
  const V least = hn::Set(d, kLeastSquare), most = hn::Set(d, kMostSquare);
  bool all = true;
  for (size_t i = 0; i < p.count; i += hn::Lanes(d)) {
    const V square = hn::Mul(hn::Load(d, known.square + i), per_product);
    hn::Store(square, d, known.square + i);
    const auto half = hn::ShiftRight<1>(hn::Sub(hn::ShiftRight<23>(hn::BitCast(di, square)), bias));
    const V factor = hn::BitCast(d, hn::ShiftLeft<23>(hn::Sub(bias, half)));
    const V inverse = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(bias, half)));
    const V pairs = hn::Mul(hn::Mul(hn::Load(d, known.pairs + i), factor), factor);
    const size_t n = HWY_MIN(hn::Lanes(d), p.count - i), row = p.first + i;
    store_some(hn::Neg(pairs), n, p.start + row);
    store_some(inverse, n, p.unscale + row);
    const auto fit = hn::And(hn::Ge(square, least), hn::Le(square, most));
    all = all && hn::AllTrue(d, hn::Or(fit, hn::Not(hn::FirstN(d, n))));
  }
  return all;
}

// One row's values for four, times a factor.
template <bool kScaled>
struct LargerValues {
  Values<1, kScaled> row;
  V factor;

  HWY_INLINE V load(int, size_t k, size_t n) const { return hn::Mul(row.load(0, k, n), factor); }
};

// A row whose squares are too small for floats, of values that are not all zero: those of larger
// values, and a scale that is a float, so that values of less than 2^-126 may stay below 1.
template <bool kScaled>
void measure_small(const PairedPreparation& p, size_t i) {
  HWY_ALIGN float square[4], pairs[4];
  for (const int exponent : {60, 120}) {
    const LargerValues<kScaled> values{{{p.row[i]}, p.scale},
                                       hn::Set(D(), PowerOfTwo{exponent}.value())};
    sum_four(values, p.to.order, square, pairs);
    const float mean = square[0] / static_cast<float>(p.to.order.products());
    if (mean < kLeastSquare) continue;
    const PowerOfTwo scale{HWY_MIN(paired_scale(mean).exponent, 126 - exponent)};
    p.start[p.first + i] = -(pairs[0] * scale.value() * scale.value());
    p.unscale[p.first + i] = PowerOfTwo{exponent + scale.exponent}.inverse();
    return;
  }
}

template <bool kScaled>
HWY_INLINE void measure_rows(const PairedPreparation& p) {
  Known known;
  sum_rows<kScaled>(p, known);
  const bool all = scale_rows(p, known);
  std::fill_n(p.kind + p.first, p.count, PairedKind::kPairs);
  for (size_t i = 0; i < p.count && !all; ++i) {
    if (fits_pairs(known.square[i])) continue;
    const size_t row = p.first + i;
    const RowValues values{p.row[i], p.scale};
    if (known.square[i] == 0.0F && values.all_zero(p.to.order.products())) {
      p.kind[row] = PairedKind::kZeros;
      p.unscale[row] = 1;
    } else if (known.square[i] < kLeastSquare) {
      measure_small<kScaled>(p, i);
    } else {  // single products, of values so small that their sums do not overflow
      p.kind[row] = PairedKind::kSingles;
      p.unscale[row] = PowerOfTwo{-40}.inverse();
    }
  }
}

// Row i of these by itself.
template <bool kScaled>
void copy_row(const PairedPreparation& p, size_t i) {
  const size_t row = p.first + i;
  if (p.kind[row] == PairedKind::kPairs) {
    copy_pairs(p, Values<1, kScaled>{{p.row[i]}, p.scale}, row);
  } else if (p.kind[row] == PairedKind::kSingles) {
    copy_singles(p, {p.row[i], p.scale}, row);
  }
}

constexpr PairedKind kFourPairs[] = {PairedKind::kPairs, PairedKind::kPairs, PairedKind::kPairs,
                                     PairedKind::kPairs};

// First what is to be known of all rows, then the rest: sums take long to come, and other rows' are
// taken meanwhile.
template <bool kScaled>
void prepare_rows(const PairedPreparation& p) {
  if (p.to.begin == 0) measure_rows<kScaled>(p);
  size_t i = 0;
  for (; i + 4 <= p.count; i += 4) {
    if (std::memcmp(p.kind + p.first + i, kFourPairs, sizeof kFourPairs) == 0) {
      const Values<4, kScaled> values{{p.row[i], p.row[i + 1], p.row[i + 2], p.row[i + 3]},
                                      p.scale};
      copy_pairs(p, values, p.first + i);
    } else {
      for (size_t r = i; r < i + 4; ++r) copy_row<kScaled>(p, r);
    }
  }
  for (; i < p.count; ++i) copy_row<kScaled>(p, i);
}

void prepare(const PairedPreparation& p) {
  (p.scale ? prepare_rows<true> : prepare_rows<false>)(p);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace sepconv {
HWY_EXPORT(prepare);
PreparePairedRows prepare_paired_rows() { return dispatched(HWY_DISPATCH_TABLE(prepare)); }
}  // namespace sepconv
#endif
