// The sums of the GEMM microkernels, from zeros to where they are stored. Included once per target.
#if defined(SEPCONV_GEMM_STORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_GEMM_STORE_INL_H_
#undef SEPCONV_GEMM_STORE_INL_H_
#else
#define SEPCONV_GEMM_STORE_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/activation-inl.h"
#include "kernels/epilogue-inl.h"
#include "kernels/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {

// Finishing a row, from the bias to the store, takes longer than its last products. The compiler
// would add the bias everywhere, then clamp everything, then store; the next tile's first products
// would wait behind all of that, as a processor looks only so far ahead. So rows take turns.
HWY_INLINE V in_turn(V v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && !HWY_COMPILER_CLANG
  asm volatile("" : "+v"(v.raw) : : "memory");
#endif
  return v;
}

// One row of any tile.
template <int NV>
HWY_INLINE void store_row(const GemmTile& t, size_t row, const V (&sums)[NV]) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  float* HWY_RESTRICT c = t.c + row * t.c_step;
  const float* residual = t.residual ? t.residual + row * t.c_step : nullptr;
  for (int j = 0; j < NV; ++j) {
    const size_t at = static_cast<size_t>(j) * lanes;
    if (t.columns <= at) return;
    const V bias = t.bias_per_row ? broadcast(t.bias + row) : hn::Load(d, t.bias + at);
    store_finished(t.epilogue, hn::Add(in_turn(sums[j]), bias), residual ? residual + at : nullptr,
                   HWY_MIN(lanes, t.columns - at), c + at);
  }
}

// What is added to a row: nothing, or a residual before or after the activation.
enum class Residual { kNone, kFirst, kLast };

// The common case, row by row: the activation is a clamp; kWhole: the last vector too is full;
// kRowBias: the bias is one per row; kStream: past the caches. Pointers are kept in registers and
// moved down: read from the tile, they would be read again after every store, which might change
// them. kEarly: made before the products, when two registers are left for it, so that limits are
// read again for every row.
template <int NV, Residual kResidual, bool kWhole, bool kRowBias, bool kStream, bool kEarly>
class RowStore {
 public:
  HWY_INLINE explicit RowStore(GemmTile& t)
      : t_(t),
        row_bias_(t.bias),
        residual_(t.residual),
        c_(t.c),
        last_(t.columns - (NV - 1) * hn::Lanes(D())),
        clamps_(t.epilogue.clamps()),
        lo_(kEarly ? hn::Zero(D()) : lo()),
        hi_(kEarly ? hn::Zero(D()) : hi()) {
#pragma GCC unroll 2
    for (size_t j = 0; j < NV; ++j) {
      bias_[j] = kRowBias ? hn::Zero(D()) : hn::Load(D(), t.bias + j * hn::Lanes(D()));
      if (kEarly) bias_[j] = in_register(bias_[j]);
    }
  }

  HWY_INLINE void row(const V (&sums)[NV]) {
    const D d;
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) {
      const size_t at = static_cast<size_t>(j) * hn::Lanes(d);
      const bool whole = kWhole || j + 1 < NV;
      V v = hn::Add(in_turn(sums[j]), kRowBias ? broadcast(row_bias_) : bias_[j]);
      V add = hn::Zero(d);
      if (kResidual != Residual::kNone) {
        add = whole ? hn::LoadU(d, residual_ + at) : load_first(d, last_, residual_ + at);
      }
      if (kResidual == Residual::kFirst) v = hn::Add(v, add);
      if (clamps_) v = kEarly ? clamp(v, lo(), hi()) : clamp(v, lo_, hi_);
      if (kResidual == Residual::kLast) v = hn::Add(v, add);
      if (kStream) {
        hn::Stream(v, d, c_ + at);
      } else if (whole) {
        hn::StoreU(v, d, c_ + at);
      } else {
        store_first(d, v, last_, c_ + at);
      }
    }
    c_ += t_.c_step;
    if (kResidual != Residual::kNone) residual_ += t_.c_step;
    if (kRowBias) ++row_bias_;
  }

  HWY_INLINE void finish() const {
    t_.c = c_;
    t_.residual = residual_;
    if (kRowBias) t_.bias = row_bias_;
  }

 private:
  HWY_INLINE V lo() const { return broadcast(&t_.epilogue.lo); }
  HWY_INLINE V hi() const { return broadcast(&t_.epilogue.hi); }

  GemmTile& t_;
  const float *row_bias_, *residual_;
  float* c_;
  size_t last_;
  bool clamps_;  ///< or else there would be two operations too many, where FMA has no unit to spare
  V lo_, hi_, bias_[NV];
};

template <int MR, int NV, Residual kResidual, bool kWhole, bool kRowBias = false,
          bool kStream = false>
HWY_INLINE void store_clamped(GemmTile& t, const V (&acc)[MR][NV]) {
  RowStore<NV, kResidual, kWhole, kRowBias, kStream, false> store(t);
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i) store.row(acc[i]);
  store.finish();
}

template <int MR, int NV>
HWY_INLINE void clear(V (&acc)[MR][NV]) {
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) acc[i][j] = hn::Zero(D());
  }
}

// Between the calls for a tile's parts: its sums.
template <int MR, int NV>
HWY_INLINE void store_sums(float* sums, const V (&acc)[MR][NV]) {
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j, sums += hn::Lanes(D())) hn::Store(acc[i][j], D(), sums);
  }
}

template <int MR, int NV>
HWY_INLINE void add_sums(const float* sums, V (&acc)[MR][NV]) {
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j, sums += hn::Lanes(D())) {
      acc[i][j] = hn::Add(hn::Load(D(), sums), acc[i][j]);
    }
  }
}

// One tile after the other, by the function that `choose` gives for them. A costly activation of
// finished ones goes over the tile once more, and then a residual that follows it.
template <int MR, class Tile>
HWY_INLINE void run_tiles(Tile& t, size_t tiles, bool finishes,
                          void (*choose(const Tile&))(Tile&)) {
  const ActivationKind kind = t.epilogue.kind;
  if (kind == ActivationKind::kNone || !finishes) {
    for (auto* const run = choose(t); tiles > 0; --tiles) run(t);
    return;
  }
  const float* late = t.epilogue.residual_first ? nullptr : t.residual;
  if (late) t.residual = nullptr;
  for (auto* const run = choose(t); tiles > 0; --tiles) {
    float* const c = t.c;
    run(t);
    activate_rows(t.epilogue, c, late, t.c_step, MR, t.columns);
    if (late) late += MR * t.c_step;
  }
  if (late) t.residual = late;
}

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
