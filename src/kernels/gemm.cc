// GEMM microkernel. Register tile (AVX2: 6 rows × 2 vectors; AVX-512 and NEON: 12 × 2):
//
//              b0       b1        two vectors of the packed panel, loaded once per k
//      a0 →  acc00    acc01       each a is one float, broadcast from its row
//      a1 →  acc10    acc11
//       ⋮       ⋮        ⋮
//      a5 →  acc50    acc51
//
// One vector wide it has 12 rows with either. Per k: 2·MR FMAs for 2 + MR loads. Flops per byte
// read from L1: 2·2·MR·L / (4·(2·L + MR)); for AVX2 192 / 88 = 2.2, for AVX-512 768 / 176 = 4.4, so
// that FMA, not loads, is the limit. The sum of one element runs over k in order, in parts of 256,
// and the bias comes last (first, it would make every addition round at its own size), whatever the
// tile: splitting rows or columns changes no bit.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <hwy/cache_control.h>

#include "kernels/gemm.h"
#include "kernels/gemm_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif
// Six sums would wait for each other: two are added to every cycle, and one takes four.
constexpr int kNarrowRows = 12;

// Panels often stream from L3 or memory, and the processor's own prefetch stops at every page. Only
// the first tile of a panel would wait for them, at more bytes per cycle than L3 gives; so every
// tile fetches its share of the next panel into L2, and its own panel into L1 this many values of k
// ahead. A product of one or two rows has nothing to do but wait for the panel.
template <int MR>
constexpr size_t kAhead = MR <= 2 ? 128 : 32;

// What shares a vector where half of one would do for the columns: two rows, or two products of a
// row.
enum class Halves { kOfRows, kOfProducts };
// Computes a tile and moves on to the next one.
using OneTile = void (*)(GemmTile&);

// MR rows `step` floats apart, walked together. Three rows to a pointer, the others at once and
// twice the step: a pointer for each would not fit into the registers.
template <int MR>
struct Rows {
  const float* pointer[(MR + 2) / 3];
  size_t step;

  HWY_INLINE Rows(const float* first, size_t s) : step(s) {
#pragma GCC unroll 12
    for (int i = 0; i < MR; i += 3) pointer[i / 3] = first + static_cast<size_t>(i) * s;
  }
  HWY_INLINE const float* place(int i) const {
    return pointer[i / 3] + static_cast<size_t>(i % 3) * step;
  }
  HWY_INLINE V element(int i) const { return broadcast(place(i)); }
  HWY_INLINE void advance() {
#pragma GCC unroll 12
    for (int i = 0; i < MR; i += 3) ++pointer[i / 3];
  }
};

// Fetches what is needed soon: a share of the next panel and, if kOwn, this one's next values.
template <int MR, int NV, bool kOwn>
HWY_INLINE void prefetch(const float* b, const char* ahead) {
#pragma GCC unroll 2
  for (int j = 0; j < NV && kOwn; ++j) {
    __builtin_prefetch(b + (kAhead<MR> * NV + static_cast<size_t>(j)) * hn::Lanes(D()));
  }
  __builtin_prefetch(ahead, 0, 2);
}

// acc += A·B over k values of rows `step` floats apart; the loop that all time is spent in.
template <int MR, int NV, bool kOwn = true>
HWY_INLINE void add_products(const float* HWY_RESTRICT rows, size_t step, size_t count,
                             const float* HWY_RESTRICT b, const char* ahead, size_t ahead_step,
                             V (&acc)[MR][NV]) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  Rows<MR> a(rows, step);
  for (size_t k = 0; k < count; ++k) {
    V column[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) column[j] = hn::Load(d, b + static_cast<size_t>(j) * lanes);
    prefetch<MR, NV, kOwn>(b, ahead);
    b += NV * lanes;
    ahead += ahead_step;
#pragma GCC unroll 12
    for (int i = 0; i < MR; ++i) {
      const V value = a.element(i);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = hn::MulAdd(value, column[j], acc[i][j]);
    }
    a.advance();
  }
}

// acc = the tile's products so far: those of earlier calls, then those of this one.
template <int MR, int NV>
HWY_INLINE void add_range(const GemmTile& t, V (&acc)[MR][NV]) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  clear(acc);
  size_t tap = 0, k = 0;
  if (t.start > 0) {
    tap = t.start / t.k;
    k = t.start % t.k;
  }
  const float* HWY_RESTRICT b = t.b + t.start * NV * lanes;
  const char* ahead = t.ahead;
  for (size_t left = t.count; left > 0; ++tap, k = 0) {
    const size_t count = HWY_MIN(t.k - k, left);
    add_products<MR, NV>(t.a[tap] + t.a_offset + k, t.a_step, count, b, ahead, t.ahead_step, acc);
    ahead += count * t.ahead_step;
    b += count * NV * lanes;
    left -= count;
  }
  if (t.start > 0) add_sums(t.sums, acc);
}

// The next tile of the same panel: c and the residual have moved on already.
template <int MR, int NV>
HWY_INLINE void move_on(GemmTile& t) {
  t.a_offset += MR * t.a_step;
  t.ahead += t.count * t.ahead_step;
  if (t.sums) t.sums += MR * NV * hn::Lanes(D());
}

// A call that does not finish its tile.
template <int MR, int NV>
HWY_NOINLINE void partial_tile(GemmTile& t) {
  V acc[MR][NV];
  add_range<MR, NV>(t, acc);
  store_sums(t.sums, acc);
  t.c += MR * t.c_step;
  if (t.residual) t.residual += MR * t.c_step;
  move_on<MR, NV>(t);
}

// The last products of a tile, four rows at a time, each of which is stored before the next four:
// what bias and clamp wait for is then not all of the tile, and other rows' products come between.
constexpr size_t kLastProducts = 6;

template <int MR, int NV, class Store>
HWY_INLINE void finish_rows(Store& store, const float* HWY_RESTRICT rows, size_t step,
                            const float* HWY_RESTRICT b, const char* ahead, size_t ahead_step,
                            V (&acc)[MR][NV]) {
  const D d;
  constexpr int kGroups = (MR + 3) / 4;
#pragma GCC unroll 3
  for (int g = 0; g < kGroups; ++g) {
    const int first = MR * g / kGroups, end = MR * (g + 1) / kGroups;
    // As if anew for every group, or else GCC would keep all of b in registers that are not there.
    // And loops over four rows, whatever the group's height: GCC unrolls the inner loop first.
    const float* a = in_register(rows + static_cast<size_t>(first) * step);
    const float* column_of = in_register(b);
#pragma GCC unroll 6
    for (size_t k = 0; k < kLastProducts; ++k) {
      if (g == 0) prefetch<MR, NV, false>(b, ahead + k * ahead_step);
      V column[NV];
#pragma GCC unroll 2
      for (size_t j = 0; j < NV; ++j) {
        column[j] = hn::Load(d, column_of + (k * NV + j) * hn::Lanes(d));
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        if (first + i >= end) continue;
        const V value = broadcast(a + static_cast<size_t>(i) * step + k);
#pragma GCC unroll 2
        for (int j = 0; j < NV; ++j) {
          acc[first + i][j] = hn::MulAdd(value, column[j], acc[first + i][j]);
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (first + i < end) store.row(acc[first + i]);
    }
  }
  store.finish();
}

template <int MR, int NV>
HWY_NOINLINE void any_tile(GemmTile& t) {
  V acc[MR][NV];
  add_range<MR, NV>(t, acc);
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i) store_row<NV>(t, static_cast<size_t>(i), acc[i]);
  t.c += MR * t.c_step;
  if (t.residual) t.residual += MR * t.c_step;
  if (t.bias_per_row) t.bias += MR;
  move_on<MR, NV>(t);
}

// Clamp, residual last: most tiles. A function of its own, or else the compiler keeps so much from
// tile to tile that it runs out of registers within them.
template <int MR, int NV, Residual kResidual, bool kWhole>
HWY_NOINLINE void clamped_tile(GemmTile& t) {
  V acc[MR][NV];
  add_range<MR, NV>(t, acc);
  store_clamped<MR, NV, kResidual, kWhole>(t, acc);
  move_on<MR, NV>(t);
}

// The same for all products of one tap and whole columns: what a pointwise convolution mostly is.
// With little to do before its first products, which matters where K is small; and its panel is
// short enough to stay in L1, so that fetching it again would only take loads from the others.
template <int MR, int NV, Residual kResidual, bool kRowBias = false, bool kStream = false>
HWY_NOINLINE void pointwise_tile(GemmTile& t) {
  V acc[MR][NV];
  clear(acc);
  const float* a = t.a[0] + t.a_offset;
  if constexpr (HWY_TARGET == HWY_AVX3 && MR > 3 && NV == 2) {
    RowStore<NV, kResidual, true, kRowBias, kStream, true> store(t);
    const size_t early = t.k - kLastProducts;
    add_products<MR, NV, false>(a, t.a_step, early, t.b, t.ahead, t.ahead_step, acc);
    finish_rows(store, a + early, t.a_step, t.b + early * NV * hn::Lanes(D()),
                t.ahead + early * t.ahead_step, t.ahead_step, acc);
  } else {
    add_products<MR, NV, MR <= 2>(a, t.a_step, t.k, t.b, t.ahead, t.ahead_step, acc);
    store_clamped<MR, NV, kResidual, true, kRowBias, kStream>(t, acc);
  }
  move_on<MR, NV>(t);
}

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

template <int MR, int NV, Residual kResidual>
auto clamped_function(const GemmTile& t) {
  const bool whole = t.columns >= NV * hn::Lanes(D());
  if (whole && t.start == 0 && t.taps == 1 && t.k >= kLastProducts) {
    const bool streams = kResidual == Residual::kNone && t.streams;
    return streams ? pointwise_tile<MR, NV, Residual::kNone, false, true>
                   : pointwise_tile<MR, NV, kResidual>;
  }
  return whole ? clamped_tile<MR, NV, kResidual, true> : clamped_tile<MR, NV, kResidual, false>;
}

template <int MR, int NV, Halves kHalves>
auto tile_function(const GemmTile& t) {
  const bool first = t.residual && t.epilogue.residual_first;
  if (t.start + t.count < t.taps * t.k) return partial_tile<MR, NV>;
  if (t.bias_per_row) {
    const bool plain = t.columns == NV * hn::Lanes(D()) && t.start == 0 && !t.residual;
    return plain && t.taps == 1 && t.k >= kLastProducts
               ? pointwise_tile<MR, NV, Residual::kNone, true>
               : any_tile<MR, NV>;
  }
  if (t.start == 0) {
    if (const auto half = half_function<MR, NV, kHalves>(t)) return half;
  }
  if (first) return clamped_function<MR, NV, Residual::kFirst>(t);
  if (t.residual) return clamped_function<MR, NV, Residual::kLast>(t);
  return clamped_function<MR, NV, Residual::kNone>(t);
}

template <int MR, int NV, Halves kHalves>
void tile(GemmTile& t, size_t tiles) {
  run_tiles<MR>(t, tiles, t.start + t.count == t.taps * t.k, tile_function<MR, NV, kHalves>);
}

// kVectors vectors, of the last one's lanes those below `rest`.
template <int kVectors, bool kWhole>
HWY_INLINE void copy_rows(const float* HWY_RESTRICT rows, size_t step, size_t count, size_t rest,
                          float* HWY_RESTRICT to) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  for (size_t k = 0; k < count; ++k, rows += step) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v, to += lanes) {
      const float* p = rows + static_cast<size_t>(v) * lanes;
      hn::Store(kWhole || v + 1 < kVectors ? hn::LoadU(d, p) : load_first(d, rest, p), d, to);
    }
  }
}

void copy_panel(const float* rows, size_t step, size_t count, size_t columns, float* to) {
  const size_t lanes = hn::Lanes(D()), rest = columns > lanes ? columns - lanes : columns;
  if (columns > lanes) {
    (rest == lanes ? copy_rows<2, true> : copy_rows<2, false>)(rows, step, count, rest, to);
  } else {
    (rest == lanes ? copy_rows<1, true> : copy_rows<1, false>)(rows, step, count, rest, to);
  }
}

void scale_panel(const float* HWY_RESTRICT panel, const float* scale, size_t count, size_t width,
                 float* HWY_RESTRICT to) {
  const D d;
  for (size_t k = 0; k < count; ++k) {
    const V factor = broadcast(scale + k);
    for (size_t end = width; end > 0; end -= hn::Lanes(d)) {
      hn::Store(hn::Mul(hn::Load(d, panel), factor), d, to);
      panel += hn::Lanes(d);
      to += hn::Lanes(d);
    }
  }
}

void finish_stream() { hwy::FlushStream(); }

template <int NV, Halves kHalves, int... I>
const GemmFunction* tiles(std::integer_sequence<int, I...>) {
  static const GemmFunction table[] = {tile<I + 1, NV, kHalves>...};
  return table;
}

template <Halves kHalves>
const GemmKernels& kernels_with() {
  const size_t lanes = hn::Lanes(D());
  static const GemmKernels table = {
      lanes,
      kRows,
      kNarrowRows,
      2 * lanes,
      HWY_TARGET == HWY_AVX3,
      {tiles<1, kHalves>(std::make_integer_sequence<int, kNarrowRows>()),
       tiles<2, kHalves>(std::make_integer_sequence<int, kRows>())},
      copy_panel,
      scale_panel,
      finish_stream};
  return table;
}

const GemmKernels& kernels(bool adds_beside) {
  if (HWY_TARGET != HWY_AVX3 || adds_beside) return kernels_with<Halves::kOfRows>();
  return kernels_with<Halves::kOfProducts>();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace sepconv {
HWY_EXPORT(kernels);
const GemmKernels& gemm_kernels() {
  return dispatched(HWY_DISPATCH_TABLE(kernels))(adders() != Adders::kNone);
}
}  // namespace sepconv
#endif
