// How the GEMM microkernels walk along rows and fetch panels. Included once per target.
#if defined(SEPCONV_GEMM_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_GEMM_ROWS_INL_H_
#undef SEPCONV_GEMM_ROWS_INL_H_
#else
#define SEPCONV_GEMM_ROWS_INL_H_
#endif

#include "kernels/gemm.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {

// Panels often stream from L3 or memory, and the processor's own prefetch stops at every page. Only
// the first tile of a panel would wait for them, at more bytes per cycle than L3 gives; so every
// tile fetches its share of the next panel into L2, and its own panel into L1 this many values of k
// ahead. A product of one or two rows has nothing to do but wait for the panel.
template <int MR>
constexpr size_t kAhead = MR <= 2 ? 128 : 32;

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

// The next tile of the same panel: c and the residual have moved on already.
template <int MR, int NV>
HWY_INLINE void move_on(GemmTile& t) {
  t.a_offset += MR * t.a_step;
  t.ahead += t.count * t.ahead_step;
  if (t.sums) t.sums += MR * NV * hn::Lanes(D());
}

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
