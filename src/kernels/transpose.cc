// Transposition of L × L floats in registers, L the lanes of a vector: a vector for each channel,
// of pixels, becomes one for each pixel, of channels. In blocks of 4 × 4, which never cross 128
// bits, then of these among each other:
//
//      a  │ a0 a1 a2 a3 │ a4 …      a0 b0 c0 d0 │ a4 b4 c4 d4        the blocks of e f g h follow
//      b  │ b0 b1 b2 b3 │ b4 …  →   a1 b1 c1 d1 │ a5 b5 c5 d5   →    a0 b0 c0 d0 e0 f0 g0 h0
//      c  │ …                       …                                …
//
// log2(L) shuffles for each vector that is loaded and stored once: 8 bytes moved for no flop.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/transpose.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/transpose.h"
#include <hwy/cache_control.h>

#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
static_assert(kLanes <= static_cast<int>(TransposeKernels::kMostLanes));

#if HWY_TARGET != HWY_SCALAR
// Rows 0 … 3 of x, 4 apart from each other in t: within every block of four floats.
HWY_INLINE void transpose_blocks(const V* x, V* t) {
  const D d;
  const hn::Repartition<double, D> wide;
  const auto pairs = [&](V v) HWY_ATTR { return hn::BitCast(wide, v); };
  const auto ab_low = pairs(hn::InterleaveLower(d, x[0], x[1]));
  const auto ab_high = pairs(hn::InterleaveUpper(d, x[0], x[1]));
  const auto cd_low = pairs(hn::InterleaveLower(d, x[2], x[3]));
  const auto cd_high = pairs(hn::InterleaveUpper(d, x[2], x[3]));
  t[0] = hn::BitCast(d, hn::InterleaveLower(wide, ab_low, cd_low));
  t[1] = hn::BitCast(d, hn::InterleaveUpper(wide, ab_low, cd_low));
  t[2] = hn::BitCast(d, hn::InterleaveLower(wide, ab_high, cd_high));
  t[3] = hn::BitCast(d, hn::InterleaveUpper(wide, ab_high, cd_high));
}
#endif

// The blocks of four floats with even, or odd, numbers: those of a, then those of b.
template <bool kOdd>
HWY_INLINE V alternate_blocks(V a, V b) {
#if HWY_TARGET == HWY_AVX3
  return V{_mm512_shuffle_f32x4(a.raw, b.raw, kOdd ? 0xDD : 0x88)};
#elif HWY_TARGET == HWY_AVX2
  return kOdd ? hn::ConcatUpperUpper(D(), b, a) : hn::ConcatLowerLower(D(), b, a);
#else
  return kOdd ? b : a;
#endif
}

HWY_INLINE void transpose([[maybe_unused]] V (&x)[kLanes]) {
#if HWY_TARGET != HWY_SCALAR
  V t[kLanes];
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) transpose_blocks(x + i, t + i);
    // t[4·g + j]: block k has pixel 4·k + j of the channels from 4·g on.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    if constexpr (kLanes == 4) {
      x[j] = t[j];
    } else if constexpr (kLanes == 8) {
      x[j] = alternate_blocks<false>(t[j], t[4 + j]);
      x[4 + j] = alternate_blocks<true>(t[j], t[4 + j]);
    } else {
      const V even0 = alternate_blocks<false>(t[j], t[4 + j]);
      const V even1 = alternate_blocks<false>(t[8 + j], t[12 + j]);
      const V odd0 = alternate_blocks<true>(t[j], t[4 + j]);
      const V odd1 = alternate_blocks<true>(t[8 + j], t[12 + j]);
      x[j] = alternate_blocks<false>(even0, even1);
      x[4 + j] = alternate_blocks<false>(odd0, odd1);
      x[8 + j] = alternate_blocks<true>(even0, even1);
      x[12 + j] = alternate_blocks<true>(odd0, odd1);
    }
  }
#endif
}

// `pixels` ≤ L of them from p on.
template <bool kAllChannels, bool kAllPixels>
HWY_INLINE void tile_to_pixels(const float* const* planes, size_t channels, size_t p, size_t pixels,
                               float* y, size_t pixel) {
  V x[kLanes];
#pragma GCC unroll 16
  for (int c = 0; c < kLanes; ++c) x[c] = load_lanes<!kAllPixels>(planes[c] + p, pixels);
  transpose(x);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if (!kAllPixels && static_cast<size_t>(i) >= pixels) break;
    store_lanes<!kAllChannels>(x[i], channels, y + (p + static_cast<size_t>(i)) * pixel);
  }
}

template <bool kAllChannels, bool kAllPixels>
HWY_INLINE void tile_to_planes(const float* x, size_t pixel, size_t channels, size_t p,
                               size_t pixels, float* const* planes, bool streams) {
  V t[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    const bool is_there = kAllPixels || static_cast<size_t>(i) < pixels;
    const float* from = x + (p + static_cast<size_t>(i)) * pixel;
    t[i] = is_there ? load_lanes<!kAllChannels>(from, channels) : hn::Zero(D());
  }
  transpose(t);
#pragma GCC unroll 16
  for (int c = 0; c < kLanes; ++c) {
    if (!kAllChannels && static_cast<size_t>(c) >= channels) break;
    if (kAllPixels && streams) {
      hn::Stream(t[c], D(), planes[c] + p);
    } else {
      store_lanes<!kAllPixels>(t[c], pixels, planes[c] + p);
    }
  }
}

template <bool kAllChannels>
HWY_NOINLINE void tiles_to_pixels(const float* const* planes, size_t channels, size_t pixels,
                                  float* y, size_t pixel) {
  size_t p = 0;
  for (; p + kLanes <= pixels; p += kLanes) {
    tile_to_pixels<kAllChannels, true>(planes, channels, p, kLanes, y, pixel);
  }
  if (p < pixels) {
    tile_to_pixels<kAllChannels, false>(planes, channels, p, pixels - p, y, pixel);
  }
}

template <bool kAllChannels>
HWY_NOINLINE void tiles_to_planes(const float* x, size_t pixel, size_t channels, size_t pixels,
                                  float* const* planes, bool streams) {
  size_t p = 0;
  for (; p + kLanes <= pixels; p += kLanes) {
    tile_to_planes<kAllChannels, true>(x, pixel, channels, p, kLanes, planes, streams);
  }
  if (p < pixels) {
    tile_to_planes<kAllChannels, false>(x, pixel, channels, p, pixels - p, planes, streams);
  }
  if (streams) hwy::FlushStream();
}

void to_pixels(const float* const* planes, size_t channels, size_t pixels, float* y, size_t pixel) {
  (channels == kLanes ? tiles_to_pixels<true> : tiles_to_pixels<false>)(planes, channels, pixels, y,
                                                                        pixel);
}

void to_planes(const float* x, size_t pixel, size_t channels, size_t pixels, float* const* planes,
               bool streams) {
  (channels == kLanes ? tiles_to_planes<true> : tiles_to_planes<false>)(x, pixel, channels, pixels,
                                                                        planes, streams);
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

const TransposeKernels& kernels() {
  static const TransposeKernels table = {kLanes, to_pixels, to_planes, interleave3};
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
const TransposeKernels& transpose_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
