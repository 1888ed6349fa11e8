// What the depthwise kernels share. Included once per target by them.
#if defined(SEPCONV_DEPTHWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_DEPTHWISE_INL_H_
#undef SEPCONV_DEPTHWISE_INL_H_
#else
#define SEPCONV_DEPTHWISE_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "kernels/activation-inl.h"
#include "kernels/depthwise.h"
#include "kernels/fetch.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {

// A line of the output that is written past the caches need not be read from memory first.
HWY_INLINE void store(const DepthwiseRows& a, V v, float* p) {
  if (a.streams) {
    hn::Stream(v, D(), p);
  } else {
    hn::StoreU(v, D(), p);
  }
}

// What a block of channels brings into L2 while it computes: its share of what comes next in
// memory, or, where less is left, the last of it. kLines: cache lines at a time.
template <size_t kLines>
class Ahead {
 public:
  HWY_INLINE Ahead(const DepthwiseRows& a, size_t block, int64_t times) {
    if (!a.ahead) return;
    const size_t floats = static_cast<size_t>(times) * kLines * kLineFloats;
    const size_t room = static_cast<size_t>(a.ahead_end - a.ahead);
    next_ =
        a.ahead + (room >= (block + 1) * floats ? block * floats : room - HWY_MIN(room, floats));
  }
  HWY_INLINE void fetch() {
    if (!next_) return;
#pragma GCC unroll 16
    for (size_t i = 0; i < kLines; ++i) prefetch_to_l2(next_ + i * kLineFloats);
    next_ += kLines * kLineFloats;
  }

 private:
  const float* next_ = nullptr;
};

// Activates `lanes` channels from c on of `rows` rows, unless a clamp was all.
HWY_INLINE void activate_block(const DepthwiseRows& a, size_t c, int rows, size_t lanes) {
  if (a.epilogue.kind == ActivationKind::kNone) return;
  for (int o = 0; o < rows; ++o) {
    activate_rows(a.epilogue, a.out[o] + c, nullptr, a.out_pixel, static_cast<size_t>(a.out_width),
                  lanes);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
