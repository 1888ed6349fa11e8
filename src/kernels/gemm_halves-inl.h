// GEMM tiles for the panel of columns that ends with half a vector. Included once per target.
#if defined(SEPCONV_GEMM_HALVES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_GEMM_HALVES_INL_H_
#undef SEPCONV_GEMM_HALVES_INL_H_
#else
#define SEPCONV_GEMM_HALVES_INL_H_
#endif

#include "kernels/gemm_rows-inl.h"
#include "kernels/gemm_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {

// What shares a vector where half of one would do for the columns: two rows, or two products of a
// row.
enum class Halves { kOfRows, kOfProducts };
// Computes a tile and moves on to the next one.
using OneTile = void (*)(GemmTile&);

#if HWY_TARGET == HWY_AVX3
// p[0] and p[1] by turns.
HWY_INLINE V broadcast_two(const float* p) {
  int64_t bits;
  hwy::CopyBytes<sizeof(bits)>(p, &bits);
  return V{_mm512_castsi512_ps(_mm512_set1_epi64(bits))};
}

// p[0] and 0 by turns.
HWY_INLINE V broadcast_one(const float* p) {
  return V{_mm512_maskz_broadcastss_ps(0x5555, _mm_load_ss(p))};
}

// Stores rows of one and a half vectors, or of the half alone: whole[i], if there are such, and the
// halves of rows 2i and 2i + 1, side by side in rest[i].
template <int MR, bool kWhole>
HWY_INLINE void store_halves(GemmTile& t, V (&whole)[kWhole ? MR : 1], V (&rest)[(MR + 1) / 2]) {
  const D d;
  const hn::Half<D> half;
  const size_t before = kWhole ? hn::Lanes(d) : 0, step = t.c_step;
  const V lo = broadcast(&t.epilogue.lo), hi = broadcast(&t.epilogue.hi);
  const V bias = hn::Load(d, t.bias);
  const V bias_of_half =
      kWhole ? hn::Load(d, t.bias + before) : hn::ConcatLowerLower(d, bias, bias);
  const auto columns = hn::FirstN(half, t.columns - before);
  const bool first = t.residual && t.epilogue.residual_first;
  const float* residual = t.residual;
  float* c = t.c;
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i, c += step) {
    V both = hn::Add(rest[i / 2], bias_of_half);
    if (!first) both = clamp(both, lo, hi);
    auto own = i % 2 ? hn::UpperHalf(half, both) : hn::LowerHalf(half, both);
    if (residual) own = hn::Add(own, hn::MaskedLoad(columns, half, residual + before));
    if (first) own = hn::Min(hn::LowerHalf(half, hi), hn::Max(hn::LowerHalf(half, lo), own));
    if constexpr (kWhole) {
      V v = hn::Add(in_turn(whole[i]), bias);
      if (!first) v = clamp(v, lo, hi);
      if (residual) v = hn::Add(v, hn::LoadU(d, residual));
      hn::StoreU(first ? clamp(v, lo, hi) : v, d, c);
    }
    if (residual) residual += step;
    // Or else GCC would extract to memory under the mask, which may fault where the mask is zero.
    asm("" : "+v"(own.raw));
    hn::BlendedStore(own, columns, half, c + before);
  }
  t.c = c;
  t.residual = residual;
}

// A panel of one and a half vectors: the same register tile, where two rows share the second one.
//
//              b0    b1 b1       the half, twice: so is the panel packed
//      a0 →  acc0   ┌──┬──┐
//      a1 →  acc1   │a0│a1│      shared0: columns 16…23 of row 0, then of row 1
//
// Per k: 3·MR / 2 FMAs where two whole vectors would take 2·MR.
template <int MR>
HWY_NOINLINE void half_of_rows_tile(GemmTile& t) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  constexpr int kPairs = (MR + 1) / 2;
  V acc[MR], shared[kPairs];
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i) acc[i] = shared[i / 2] = hn::Zero(d);
  const float* HWY_RESTRICT b = t.b;
  const char* ahead = t.ahead;
  for (size_t tap = 0; tap < t.taps; ++tap) {
    Rows<MR> a(t.a[tap] + t.a_offset, t.a_step);
    for (size_t k = 0; k < t.k; ++k) {
      const V low = hn::Load(d, b), high = hn::Load(d, b + lanes);
      prefetch<MR, 2, false>(b, ahead);
      b += 2 * lanes;
      ahead += t.ahead_step;
#pragma GCC unroll 6
      for (int i = 0; i < kPairs; ++i) {
        const int second = HWY_MIN(2 * i + 1, MR - 1);
        const V value0 = a.element(2 * i), value1 = a.element(second);
        acc[2 * i] = hn::MulAdd(value0, low, acc[2 * i]);
        if (second > 2 * i) acc[second] = hn::MulAdd(value1, low, acc[second]);
        shared[i] = hn::MulAdd(hn::ConcatUpperLower(d, value1, value0), high, shared[i]);
      }
      a.advance();
    }
  }
  store_halves<MR, true>(t, acc, shared);
  move_on<MR, 2>(t);
}

// The same where joining two rows' values takes a unit that multiplies: instead two values of k
// share the vector, as a row has these side by side; their sums are joined at the end.
//
//              b0(k)  b0(k+1)   │b1(k)│b1(k+1)│   by turns: columns 16, 16, 17, 17, …
//      a0 →      acc0           │a(k) │a(k+1) │   shared0: column 16 of even k, of odd k, 17, …
//
// Per two k: 3·MR FMAs for 3·MR + 4 loads and one permutation. Without kWhole there is the half
// alone: MR FMAs.
template <int MR, bool kWhole>
HWY_NOINLINE void half_of_products_tile(GemmTile& t) {
  const D d;
  const hn::RebindToSigned<D> di;
  const size_t lanes = hn::Lanes(d), width = kWhole ? 2 * lanes : lanes;
  constexpr int kWholeRows = kWhole ? MR : 1;
  V acc[kWholeRows], shared[MR];
#pragma GCC unroll 12
  for (int i = 0; i < kWholeRows; ++i) acc[i] = hn::Zero(d);
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i) shared[i] = hn::Zero(d);
  const auto place = hn::Iota(di, 0);
  const auto by_turns =
      hn::Add(hn::ShiftRight<1>(place), hn::ShiftLeft<4>(hn::And(place, hn::Set(di, 1))));
  const float* HWY_RESTRICT b = t.b;
  const char* ahead = t.ahead;
  for (size_t tap = 0; tap < t.taps; ++tap) {
    Rows<MR> a(t.a[tap] + t.a_offset, t.a_step);
    const auto products = [&]<bool kTwo>() HWY_ATTR {
      const V low0 = kWhole ? hn::Load(d, b) : hn::Zero(d);
      const V low1 = kWhole && kTwo ? hn::Load(d, b + width) : hn::Zero(d);
      const V half0 = hn::Load(d, b + width - lanes);
      const V half1 = kTwo ? hn::Load(d, b + 2 * width - lanes) : hn::Zero(d);
      const V half{_mm512_permutex2var_ps(half0.raw, by_turns.raw, half1.raw)};
#pragma GCC unroll 2
      for (size_t k = 0; k < 1 + kTwo; ++k) {
        prefetch<MR, 2, false>(b, ahead);
        b += width;
        ahead += t.ahead_step;
      }
#pragma GCC unroll 12
      for (int i = 0; i < MR; ++i) {
        const float* const p = a.place(i);
        if constexpr (kWhole) acc[i] = hn::MulAdd(broadcast(p), low0, acc[i]);
        if constexpr (kWhole && kTwo) acc[i] = hn::MulAdd(broadcast(p + 1), low1, acc[i]);
        shared[i] = hn::MulAdd(kTwo ? broadcast_two(p) : broadcast_one(p), half, shared[i]);
      }
      a.advance();
      if constexpr (kTwo) a.advance();
    };
    for (size_t k = 0; k + 2 <= t.k; k += 2) products.template operator()<true>();
    if (t.k % 2 != 0) products.template operator()<false>();
  }
  const auto even = hn::ShiftLeft<1>(place), odd = hn::Add(even, hn::Set(di, 1));
  V rest[(MR + 1) / 2];
#pragma GCC unroll 6
  for (int i = 0; i < MR; i += 2) {
    const V first = shared[i], second = shared[HWY_MIN(i + 1, MR - 1)];
    rest[i / 2] = hn::Add(V{_mm512_permutex2var_ps(first.raw, even.raw, second.raw)},
                          V{_mm512_permutex2var_ps(first.raw, odd.raw, second.raw)});
  }
  store_halves<MR, kWhole>(t, acc, rest);
  move_on<MR, kWhole ? 2 : 1>(t);
}

// The function for a panel that ends with half a vector or less, or null.
template <int MR, int NV, Halves kHalves>
OneTile half_function(const GemmTile& t) {
  const size_t lanes = hn::Lanes(D()), begin = NV == 2 ? lanes : 0;
  if (t.columns <= begin || t.columns > begin + lanes / 2) return nullptr;
  if constexpr (kHalves == Halves::kOfProducts) return half_of_products_tile<MR, NV == 2>;
  if constexpr (NV == 2) return half_of_rows_tile<MR>;
  return nullptr;
}
#else
template <int MR, int NV, Halves>
OneTile half_function(const GemmTile&) {
  return nullptr;
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
