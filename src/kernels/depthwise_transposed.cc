// Transposed depthwise convolution in NHWC, pixel by pixel: the gradient of one with a stride.
//
// Of a window's rows and columns only every stride-th reaches an output, so that R × T taps do, at
// most 2 × 2 for 3×3 and stride 2. For each vector of a pixel's channels:
//
//        in, R rows × T pixels        weights, from L1
//           ┌──┬──┐                      ┌──┬──┐
//           │  │  │           ·          │  │  │     ->  acc, stored once
//           └──┴──┘                      └──┴──┘
//
// 2·R·T flops for 2·R·T loads and a store: 0.2 per byte; on average 2.25 taps for 3×3. Outputs are
// written in the order of memory, at whose speed this runs.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise_transposed.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <hwy/cache_control.h>

#include <array>
#include <utility>

#include "kernels/depthwise_transposed.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

// What reaches one pixel: in each row of the input kTaps pixels from the right to the left, by
// every stride-th column of the window.
struct Pixel {
  const float* in[kMostTransposedTaps];
  const float* weights[kMostTransposedTaps];
  size_t in_step, weight_step;
  float* out;
  size_t channels;
};

template <size_t kRows, size_t kTaps, bool kPartial>
HWY_INLINE V sum_taps(const Pixel& p, size_t c, size_t n) {
  V acc = hn::Zero(D());
#pragma GCC unroll 4
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t t = 0; t < kTaps; ++t) {
      acc = hn::MulAdd(load_lanes<kPartial>(p.in[r] - t * p.in_step + c, n),
                       hn::LoadU(D(), p.weights[r] + t * p.weight_step + c), acc);
    }
  }
  return acc;
}

template <size_t kRows, size_t kTaps, bool kStream>
void pixel(const Pixel& args) {
  const Pixel p = args;
  const size_t lanes = hn::Lanes(D());
  size_t c = 0;
  for (; c + lanes <= p.channels; c += lanes) {
    const V v = sum_taps<kRows, kTaps, false>(p, c, lanes);
    if (kStream) {
      hn::Stream(v, D(), p.out + c);
    } else {
      hn::StoreU(v, D(), p.out + c);
    }
  }
  const size_t rest = p.channels - c;
  if (rest > 0) store_first(D(), sum_taps<kRows, kTaps, true>(p, c, rest), rest, p.out + c);
}

using PixelFunction = void (*)(const Pixel&);
constexpr size_t kCounts = kMostTransposedTaps + 1;

// [rows][taps]
template <bool kStream, size_t... I>
constexpr std::array<PixelFunction, sizeof...(I)> pixel_functions(std::index_sequence<I...>) {
  return {pixel<I / kCounts, I % kCounts, kStream>...};
}

void row(const DepthwiseTransposedRow& a) {
  using All = std::make_index_sequence<kCounts * kCounts>;
  static constexpr auto kStores = pixel_functions<false>(All());
  static constexpr auto kStreams = pixel_functions<true>(All());
  const PixelFunction* functions = (a.streams ? kStreams : kStores).data() + a.count * kCounts;
  const Window& w = a.columns;
  Pixel p{};
  p.in_step = p.channels = a.channels;
  p.weight_step = static_cast<size_t>(w.stride) * a.pitch;
  p.out = a.out;
  for (int64_t x = 0; x < a.out_width; ++x, p.out += a.out_pixel) {
    // The first tap that reaches it is of the rightmost input; those beyond the border are none.
    int64_t tap = (x + w.pad) % w.stride, from = (x + w.pad) / w.stride;
    const int64_t beyond = HWY_MAX(int64_t{0}, from - a.in_width + 1);
    tap += beyond * w.stride;
    from -= beyond;
    const int64_t left = w.size > tap ? (w.size - 1 - tap) / w.stride + 1 : 0;
    const int64_t taps = HWY_MIN(left, from + 1);
    for (size_t r = 0; r < a.count && taps > 0; ++r) {
      p.in[r] = a.in[r] + static_cast<size_t>(from) * a.channels;
      p.weights[r] = a.weights[r] + static_cast<size_t>(tap) * a.pitch;
    }
    functions[taps](p);
  }
  if (a.streams) hwy::FlushStream();
}

const DepthwiseTransposedKernels& kernels() {
  static const DepthwiseTransposedKernels table = {hn::Lanes(D()), row};
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
const DepthwiseTransposedKernels& depthwise_transposed_kernels() {
  return dispatched(HWY_DISPATCH_TABLE(kernels))();
}
}  // namespace sepconv
#endif
