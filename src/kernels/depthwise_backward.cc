// Both gradients of a depthwise 3×3 convolution in one pass: where a pixel of dX looks at dY
// through the turned window, the same pixel of X multiplies the same nine elements for dW.
//
//      window of dY, moving →       pixel of X         sums of dW
//        ┌──┬──┬──┐                   ┌──┐            ┌───┬───┬───┐
//        │22│21│20│    ×   weights    │ x│  × window  │w00│w01│w02│
//        │12│11│10│    ->  one pixel  └──┘  ->        │w10│w11│w12│
//        │02│01│00│        of dX                      │w20│w21│w22│
//        └──┴──┴──┘                                   └───┴───┴───┘
//
// 18 FMAs for 4 loads and a store, window, weights and sums in registers (27 of 32): 1.8 flops per
// byte of L1, and X, dY and dX go through it once. dX has the bits of the forward kernel on the
// turned window. Sums go to memory every kFlush products, so that rounding errors grow with two
// short chains.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise_backward.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <hwy/cache_control.h>

#include "kernels/depthwise_backward.h"
#include "kernels/fetch.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int64_t kFlush = 256;

template <bool kStream, bool kFetch>
struct Pass {
  const DepthwiseBackward& a;
  const float *x_ahead, *dy_ahead;
  V weight[9], sum[9];

  HWY_INLINE explicit Pass(const DepthwiseBackward& args)
      : a(args), x_ahead(a.x_ahead), dy_ahead(a.dy_ahead) {
    const D d;
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) {
      weight[t] = in_register(hn::Load(d, a.weights + static_cast<size_t>(t) * hn::Lanes(d)));
      sum[t] = hn::Zero(d);
    }
  }

  // Row `row` of dY, or zeros.
  HWY_INLINE const float* gradient_row(int64_t row) const {
    const bool exists = row >= 0 && row < a.out_height;
    return exists ? a.dy + static_cast<size_t>(row * a.out_width) * a.pixel : a.zeros;
  }

  // Column `c` of three rows of dY, zeros where it does not exist.
  HWY_INLINE void load_column(const float* const (&dy)[3], int64_t c, V (&to)[3]) const {
    const bool exists = c >= 0 && c < a.out_width;
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      to[i] = exists ? hn::LoadU(D(), dy[i] + static_cast<size_t>(c) * a.pixel) : hn::Zero(D());
    }
  }

  // Pixel q of a row; columns of the window from right to left, the right one loaded first.
  HWY_INLINE void pixel(const float* const (&dy)[3], const float* x, float* dx, int64_t q,
                        V (&right)[3], const V (&middle)[3], const V (&left)[3]) {
    const D d;
    if (kFetch) {
      prefetch_to_l2(x_ahead);
      prefetch_to_l2(dy_ahead);
      x_ahead += kLineFloats;
      dy_ahead += kLineFloats;
    }
    load_column(dy, q + a.pad_left, right);
    const V value = hn::LoadU(d, x + static_cast<size_t>(q) * a.pixel);
    V to_x = hn::Zero(d);
#pragma GCC unroll 3
    for (int i = 2; i >= 0; --i) to_x = hn::MulAdd(left[i], weight[3 * i + 2], to_x);
#pragma GCC unroll 3
    for (int i = 2; i >= 0; --i) to_x = hn::MulAdd(middle[i], weight[3 * i + 1], to_x);
#pragma GCC unroll 3
    for (int i = 2; i >= 0; --i) to_x = hn::MulAdd(right[i], weight[3 * i], to_x);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      sum[3 * i] = hn::MulAdd(right[i], value, sum[3 * i]);
      sum[3 * i + 1] = hn::MulAdd(middle[i], value, sum[3 * i + 1]);
      sum[3 * i + 2] = hn::MulAdd(left[i], value, sum[3 * i + 2]);
    }
    float* p = dx + static_cast<size_t>(q) * a.pixel;
    if (kStream) {
      hn::Stream(to_x, d, p);
    } else {
      hn::StoreU(to_x, d, p);
    }
  }

  HWY_INLINE void row(int64_t r) {
    // Row i of the window, from the lowest: dY's row r + pad − i.
    const float* dy[3];
    for (int i = 0; i < 3; ++i) dy[i] = gradient_row(r + a.pad_top - i);
    const float* x = a.x + static_cast<size_t>(r * a.width) * a.pixel;
    float* dx = a.dx + static_cast<size_t>(r * a.width) * a.pixel;
    V u[3], v[3], w[3];
    load_column(dy, a.pad_left - 1, v);
    load_column(dy, a.pad_left - 2, w);
    int64_t q = 0;
    for (; q + 3 <= a.width; q += 3) {
      pixel(dy, x, dx, q, u, v, w);
      pixel(dy, x, dx, q + 1, w, u, v);
      pixel(dy, x, dx, q + 2, v, w, u);
    }
    if (q == a.width) return;
    pixel(dy, x, dx, q, u, v, w);
    if (q + 1 < a.width) pixel(dy, x, dx, q + 1, w, u, v);
  }

  HWY_INLINE void flush() {
    const D d;
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) {
      float* p = a.dw + static_cast<size_t>(t) * hn::Lanes(d);
      hn::Store(hn::Add(hn::Load(d, p), sum[t]), d, p);
      sum[t] = hn::Zero(d);
    }
  }

  HWY_INLINE void run() {
    const int64_t rows = HWY_MAX(int64_t{1}, kFlush / HWY_MAX(int64_t{1}, a.width));
    for (int64_t r = a.row_begin; r < a.row_end; ++r) {
      row(r);
      if ((r + 1 - a.row_begin) % rows == 0) flush();
    }
    flush();
    if (kStream) hwy::FlushStream();
  }
};

void backward(const DepthwiseBackward& args) {
  const DepthwiseBackward a = args;
  const bool fetches = a.x_ahead && a.dy_ahead;
  if (a.streams) {
    fetches ? Pass<true, true>(a).run() : Pass<true, false>(a).run();
  } else {
    fetches ? Pass<false, true>(a).run() : Pass<false, false>(a).run();
  }
}

DepthwiseBackwardFunction function() { return backward; }
#else
DepthwiseBackwardFunction function() { return nullptr; }
#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace sepconv {
HWY_EXPORT(function);
DepthwiseBackwardFunction depthwise_backward() {
  return dispatched(HWY_DISPATCH_TABLE(function))();
}
}  // namespace sepconv
#endif
