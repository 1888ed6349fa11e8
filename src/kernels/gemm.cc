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
#include "kernels/gemm_halves-inl.h"
#include "kernels/gemm_rows-inl.h"
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
