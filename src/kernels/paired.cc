// GEMM microkernel that trades products for additions (S. Winograd, "A new algorithm for inner
// product", IEEE Transactions on Computers C-17, 1968): of two values of k,
//
//   a0·b0 + a1·b1 = (a0 + b1)·(a1 + b0) − a0·a1 − b0·b1
//
// where the last two terms are a row's and a column's alone, so that they cost next to nothing: one
// product where there were two, and two additions. Zen 4 has units for additions beside those that
// multiply and add, and both are busy when of every three values of k two are a pair and the third
// is a product for itself: 4 FMAs and 4 additions instead of 6 FMAs. Register tile, 12 rows × 2
// vectors with AVX-512 (with AVX2, where a tile waits for its loads and nothing is gained, 4 × 2):
//
//                     bx by bz                 three rows of the packed panel: a triple
//      ax ay az  →  acc += az·bz               ax, ay, az broadcast by the instructions themselves
//                   acc += (ax + by)·(ay + bx)
//
// Every second triple's ax and bx are stored negated, or else the rows' own terms would add up
// where values have a sign in common, as behind a relu. Per triple of a tile: 6·MR FMAs' worth of
// flops, 12·MR·L, for 6 vectors and 3·MR floats, each of these read by two instructions. Flops per
// byte read from L1 for AVX-512: 2304 / (6·64 + 6·12·4) = 3.4.
//
// Zen 5 takes 4 whole vectors' arithmetic in a cycle, but no more loads than Zen 4, two. There ax,
// ay and az are each loaded once for both vectors, into a register, which with 24 sums leaves room
// for four of the six vectors of columns: all rows take their single product first, then their
// pair. 42 loads for 96 instructions, and 2304 / (6·64 + 3·12·4) = 4.4 flops a byte. Bits are the
// same.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/paired.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/paired.h"
#include "base/aligned.h"
#include "base/cpu.h"
#include "kernels/gemm_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kRows = 12, kNarrowRows = 12;
#else
constexpr int kRows = 4, kNarrowRows = 8;
#endif

constexpr size_t kBlock = PairedRows::kBlock, kBlockFloats = PairedRows::kBlockFloats;

template <int NV>
HWY_INLINE void load_columns(const float* b, V (&column)[NV]) {
#pragma GCC unroll 2
  for (size_t j = 0; j < NV; ++j) column[j] = hn::Load(D(), b + j * hn::Lanes(D()));
}

// How one triple of rows first to end, at most kMost of them, is added to their sums. Where vectors
// are added by halves every addition reads its row's value itself;
struct Reading {
  template <int kMost, int MR, int NV>
  static HWY_INLINE void add_triple(const float* HWY_RESTRICT rows, const float* HWY_RESTRICT b,
                                    int first, int end, V (&acc)[MR][NV]) {
    const size_t width = NV * hn::Lanes(D());
    V x[NV], y[NV], z[NV];
    load_columns(b, x);
    load_columns(b + width, y);
    load_columns(b + 2 * width, z);
#pragma GCC unroll 12
    for (int i = 0; i < kMost; ++i) {
      if (first + i >= end) continue;
      const float* const row = rows + static_cast<size_t>(first + i) * kBlockFloats;
      V(&sum)[NV] = acc[first + i];
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[j] = mul_add_broadcast(row + 2 * kBlock, z[j], sum[j]);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) {
        const V p = add_broadcast(y[j], row), q = add_broadcast(x[j], row + kBlock);
        sum[j] = hn::MulAdd(p, q, sum[j]);
      }
    }
  }

  // As gemm.cc does it: the panel's values of ten triples later, into L1.
  template <int MR, int NV>
  static HWY_INLINE void fetch(const float*, const float* b) {
    const size_t triple = 3 * NV * hn::Lanes(D());
    const float* const later = b + 10 * triple;
    for (size_t i = 0; i < triple; i += kLineFloats) __builtin_prefetch(later + i);
  }
};

#if HWY_TARGET == HWY_AVX3
// and where they are added whole it is read once. The sums' registers are the same throughout: GCC
// would rather let them change places, by way of memory.
struct Holding {
  template <int kMost, int MR, int NV>
  static HWY_INLINE void add_triple(const float* HWY_RESTRICT rows, const float* HWY_RESTRICT b,
                                    int first, int end, V (&acc)[MR][NV]) {
    const size_t width = NV * hn::Lanes(D());
    V z[NV];
    load_columns(b + 2 * width, z);
#pragma GCC unroll 12
    for (int i = 0; i < kMost; ++i) {
      if (first + i >= end) continue;
      const V value = broadcast(rows + static_cast<size_t>(first + i) * kBlockFloats + 2 * kBlock);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) add_product(value, z[j], acc[first + i][j]);
    }
    V x[NV], y[NV];
    load_columns(b, x);
    load_columns(b + width, y);
#pragma GCC unroll 12
    for (int i = 0; i < kMost; ++i) {
      if (first + i >= end) continue;
      const float* const row = rows + static_cast<size_t>(first + i) * kBlockFloats;
      const V value = broadcast(row), next = broadcast(row + kBlock);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) {
        add_product(hn::Add(y[j], value), hn::Add(x[j], next), acc[first + i][j]);
      }
    }
  }

  // A triple's share of the next tile's rows, into L1, where the panel is.
  template <int MR, int NV>
  static HWY_INLINE void fetch(const float* next, const float*) {
    for (size_t i = 0; i < 3 * MR; i += kLineFloats) __builtin_prefetch(next + i);
  }

 private:
  static HWY_INLINE void add_product(V a, V b, V& sum) {
    asm("vfmadd231ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
  }
};
#endif

// `count` products, each for itself, of rows `kStep` floats apart.
template <int MR, int NV, size_t kStep>
HWY_INLINE void add_singles(const float* HWY_RESTRICT rows, const float* HWY_RESTRICT b,
                            size_t count, V (&acc)[MR][NV]) {
  const size_t width = NV * hn::Lanes(D());
  for (size_t k = 0; k < count; ++k, b += width, ++rows) {
    V column[NV];
    load_columns(b, column);
#pragma GCC unroll 12
    for (int i = 0; i < MR; ++i) {
      const float* const row = rows + static_cast<size_t>(i) * kStep;
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = mul_add_broadcast(row, column[j], acc[i][j]);
    }
  }
}

// acc = what the pairs have too much, to be added to.
template <int MR, int NV>
HWY_INLINE void start_sums(const PairedTile& t, V (&acc)[MR][NV]) {
  V start[NV];
  load_columns(t.bias + 4 * hn::Lanes(D()), start);
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) {
      acc[i][j] = t.pairs ? add_broadcast(start[j], t.row_start + i) : hn::Zero(D());
    }
  }
}

// What a triple fetches: at two places, as three steps may be more than a cache line.
HWY_INLINE void fetch_ahead(const char* ahead, size_t step) {
  __builtin_prefetch(ahead, 0, 2);
  __builtin_prefetch(ahead + step + step / 2, 0, 2);
}

// Where two triples are.
struct Place {
  const float *rows, *b;
};

// acc = the part's products, without its last two triples if all are pairs; returns where these
// are.
template <class Scheme, int MR, int NV>
HWY_INLINE Place add_part(const PairedTile& t, V (&acc)[MR][NV]) {
  const size_t width = NV * hn::Lanes(D());
  if (t.first) {
    start_sums(t, acc);
  } else {
    clear(acc);
  }
  const float* HWY_RESTRICT b = t.b;
  const float* block = t.rows;
  if (MR == 1 && !t.pairs) {
    for (size_t left = t.triples; left > 0; block += t.block_step) {
      const size_t count = HWY_MIN(left, kBlock);
      left -= count;
      add_singles<MR, NV, kBlockFloats>(block, b, 3 * count, acc);
      b += 3 * count * width;
    }
    add_singles<MR, NV, kBlock>(t.rest, b, t.singles, acc);
    if (!t.first) add_sums(t.sums, acc);
    return {nullptr, nullptr};
  }
  const char* ahead = t.ahead;
  const float* rows = block;
  for (size_t left = t.triples;; block += t.block_step) {
    const size_t count = HWY_MIN(left, kBlock);
    left -= count;
    rows = block;
    const float* next = block + MR * kBlockFloats;
    for (const float* const end = rows + (left > 0 ? count : count - 2); rows < end; rows += 2) {
      fetch_ahead(ahead, t.ahead_step);
      Scheme::template fetch<MR, NV>(next, b);
      Scheme::template add_triple<MR>(rows, b, 0, MR, acc);
      fetch_ahead(ahead + 3 * t.ahead_step, t.ahead_step);
      Scheme::template fetch<MR, NV>(next + 3 * MR, b + 3 * width);
      Scheme::template add_triple<MR>(rows + 1, b + 3 * width, 0, MR, acc);
      next += 6 * MR;
      b += 6 * width;
      ahead += 6 * t.ahead_step;
    }
    if (left == 0) break;
  }
  add_singles<MR, NV, kBlock>(t.rest, b + 6 * width, t.singles, acc);
  if (!t.first) add_sums(t.sums, acc);
  return {rows, b};
}

// The last two triples, four rows at a time, each of which is finished before the next four: see
// gemm.cc.
template <class Scheme, int MR, int NV, class Store>
HWY_INLINE void finish_rows(const PairedTile& t, Place last, V (&acc)[MR][NV], Store& store) {
  constexpr int kMost = Store::kGroup, kGroups = (MR + kMost - 1) / kMost;
#pragma GCC unroll 3
  for (int g = 0; g < kGroups; ++g) {
    const int first = MR * g / kGroups, end = MR * (g + 1) / kGroups;
    if (MR > 1 || t.pairs) {
      const float* const b = in_register(last.b);
      Scheme::template add_triple<kMost>(last.rows, b, first, end, acc);
      Scheme::template add_triple<kMost>(last.rows + 1, b + 3 * NV * hn::Lanes(D()), first, end,
                                         acc);
    }
    store.start();
#pragma GCC unroll 12
    for (int i = 0; i < kMost; ++i) {
      if (first + i < end) store.row(acc[first + i]);
    }
  }
}

template <int MR, int NV>
HWY_INLINE void move_on(PairedTile& t) {
  t.rows += MR * kBlockFloats;
  t.rest += MR * kBlock;
  t.row_start += MR;
  t.row_scale += MR;
  t.c += MR * t.c_step;
  if (t.residual) t.residual += MR * t.c_step;
  t.ahead += (3 * t.triples + t.singles) * t.ahead_step;
  if (t.sums) t.sums += MR * NV * hn::Lanes(D());
}

// How rows end: as sums to be added to, in a call for another part;
template <int NV>
struct SumStore {
  static constexpr int kGroup = kNarrowRows;
  float* to;

  HWY_INLINE explicit SumStore(const PairedTile& t) : to(t.sums) {}
  HWY_INLINE void start() {}
  HWY_INLINE void row(const V (&sums)[NV]) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j, to += hn::Lanes(D())) hn::Store(sums[j], D(), to);
  }
};

// all columns: clamped, past the caches too, as they are, or added to a residual;
enum class End { kClamped, kStreamed, kPlain, kAdded };

template <int NV, End kEnd>
class WholeStore {
 public:
  static constexpr int kGroup = 4;

  HWY_INLINE explicit WholeStore(const PairedTile& t)
      : columns_(t.bias),
        row_scale_(t.row_scale),
        residual_(t.residual),
        c_(t.c),
        step_(t.c_step),
        limits_(&t.epilogue) {}
  HWY_INLINE void start() {
    const D d;
    const float* const columns = in_register(columns_);
    load_columns(columns, bias_);
    load_columns(columns + 2 * hn::Lanes(d), scale_);
    if (kClamps) {
      lo_ = broadcast(&limits_->lo);
      hi_ = broadcast(&limits_->hi);
    }
  }
  HWY_INLINE void row(const V (&sums)[NV]) {
    const D d;
#pragma GCC unroll 2
    for (size_t j = 0; j < NV; ++j) {
      const V scaled = hn::Mul(in_turn(sums[j]), scale_[j]);
      V v = mul_add_broadcast(row_scale_, scaled, bias_[j]);
      if (kClamps) v = clamp(v, lo_, hi_);
      if (kEnd == End::kAdded) v = hn::Add(v, hn::LoadU(d, residual_ + j * hn::Lanes(d)));
      if (kEnd == End::kStreamed) {
        hn::Stream(v, d, c_ + j * hn::Lanes(d));
      } else {
        hn::StoreU(v, d, c_ + j * hn::Lanes(d));
      }
    }
    ++row_scale_;
    c_ += step_;
    if (kEnd == End::kAdded) residual_ += step_;
  }

 private:
  static constexpr bool kClamps = kEnd == End::kClamped || kEnd == End::kStreamed;

  const float *columns_, *row_scale_, *residual_;
  float* c_;
  size_t step_;
  const Epilogue* limits_;
  V bias_[NV], scale_[NV], lo_, hi_;
};

// or any.
template <int NV>
struct AnyStore {
  static constexpr int kGroup = 4;
  const PairedTile& t;
  const float *row_scale, *residual;
  float* c;

  HWY_INLINE explicit AnyStore(const PairedTile& tile)
      : t(tile), row_scale(tile.row_scale), residual(tile.residual), c(tile.c) {}
  HWY_INLINE void start() {}
  HWY_INLINE void row(const V (&sums)[NV]) {
    const size_t lanes = hn::Lanes(D());
#pragma GCC unroll 2
    for (size_t j = 0; j < NV; ++j) {
      const size_t at = j * lanes;
      const V scale = hn::Load(D(), t.bias + at + 2 * lanes), bias = hn::Load(D(), t.bias + at);
      const V sum = mul_add_broadcast(row_scale, hn::Mul(in_turn(sums[j]), scale), bias);
      store_finished(t.epilogue, sum, residual ? residual + at : nullptr,
                     HWY_MIN(lanes, t.columns - at), c + at);
    }
    ++row_scale;
    c += t.c_step;
    if (residual) residual += t.c_step;
  }
};

template <class Scheme, int MR, int NV, class Store>
HWY_NOINLINE void tile_with(PairedTile& t) {
  V acc[MR][NV];
  const Place last = add_part<Scheme>(t, acc);
  Store store(t);
  finish_rows<Scheme>(t, last, acc, store);
  move_on<MR, NV>(t);
}

template <class Scheme, int MR, int NV>
auto tile_function(const PairedTile& t) {
  if (!t.last) return tile_with<Scheme, MR, NV, SumStore<NV>>;
  const bool clamps = t.epilogue.clamps(), whole = t.columns == NV * hn::Lanes(D());
  if (!whole || (t.residual && clamps)) return tile_with<Scheme, MR, NV, AnyStore<NV>>;
  if (t.residual) return tile_with<Scheme, MR, NV, WholeStore<NV, End::kAdded>>;
  if (t.streams) return tile_with<Scheme, MR, NV, WholeStore<NV, End::kStreamed>>;
  return clamps ? tile_with<Scheme, MR, NV, WholeStore<NV, End::kClamped>>
                : tile_with<Scheme, MR, NV, WholeStore<NV, End::kPlain>>;
}

template <class Scheme, int MR, int NV>
void tile(PairedTile& t, size_t tiles) {
  run_tiles<MR>(t, tiles, t.last, tile_function<Scheme, MR, NV>);
}

template <class Scheme, int NV, int... I>
const PairedFunction* tiles(std::integer_sequence<int, I...>) {
  static const PairedFunction table[] = {tile<Scheme, I + 1, NV>...};
  return table;
}

template <class Scheme>
const PairedKernels& table() {
  static const PairedKernels table = {
      hn::Lanes(D()),
      kRows,
      kNarrowRows,
      {tiles<Scheme, 1>(std::make_integer_sequence<int, kNarrowRows>()),
       tiles<Scheme, 2>(std::make_integer_sequence<int, kRows>())}};
  return table;
}

const PairedKernels& kernels() {
#if HWY_TARGET == HWY_AVX3
  if (adders() == Adders::kWhole) return table<Holding>();
#endif
  return table<Reading>();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace sepconv {
HWY_EXPORT(kernels);
const PairedKernels& paired_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
