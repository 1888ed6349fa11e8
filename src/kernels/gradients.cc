// The gradients of weights, sums over all pixels.
//
// Depthwise: one output after the other; KY rows of K sums stay in registers while the window moves
// over the image.
//
//        dy                     x: K columns of KY rows               sums
//       ┌──┐                   ┌──┬──┬──┐                           ┌───┬───┬───┐
//       │dy│→            ×     │x0│x1│x2│→                    ->    │w00│w01│w02│
//       └──┘                   │  │  │  │                           │w10│w11│w12│
//                              └──┴──┴──┘                           └───┴───┴───┘
//
// The window moves in registers: KY·S + 1 loads for KY·K FMAs, with 32 registers and stride 1 4.5
// flops per byte of L1 for 3×3, 3.8 for 5×5 in rows of 3 and 2, 2.3 for 7×7 in rows of 2 and 1.
//
// Pointwise: C = Aᵀ·B, a tile of rows × 2 vectors whose products' both operands lie in rows of
// pixels as they are: nothing is packed. As many flops per byte as the GEMM tile.
//
// Sums go to memory every kFlush products, so that rounding errors grow with two short chains.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gradients.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/fetch.h"
#include "kernels/gradients.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kFlush = 256;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kRegisters = 32;
constexpr size_t kTileRows = 12;
#else
constexpr int kRegisters = 16;
constexpr size_t kTileRows = 6;
#endif

// Rows of a K×K window at once: sums and the window, and two registers more.
constexpr int rows_at_once(int k) { return HWY_MAX(1, HWY_MIN(k, (kRegisters - 2) / (2 * k))); }

// K taps of KY rows of the window, columns not dilated. Columns outside the row are zeros, so that
// the window moves over borders like over everything else.
template <int K, int KY, int S, bool kPartial>
struct TapRows {
  static constexpr int kKept = K - S;  // columns that the next output needs as well
  // Few sums would wait for each other: even and odd outputs have their own, where registers allow.
  static constexpr int kSets = 3 * KY * K + 2 <= kRegisters ? 2 : 1;

  // The window's rows go in so many groups; each fetches what comes next in its share of the rows.
  static constexpr int kOfGroup = rows_at_once(K), kGroups = (K + kOfGroup - 1) / kOfGroup;
  struct Ahead {
    const float *x, *dy;
  };

  const DepthwiseWeightGradient& a;
  V sum[kSets][KY][K];

  // Column c of the window, which is pixel x of the rows or outside them.
  HWY_INLINE void load_column(const float* const (&rows)[KY], int64_t x, int c,
                              V (&window)[KY][K]) const {
    if (x < 0 || x >= a.in_width) {
#pragma GCC unroll 8
      for (int r = 0; r < KY; ++r) window[r][c] = hn::Zero(D());
      return;
    }
    const size_t at = static_cast<size_t>(x) * a.in_pixel;
#pragma GCC unroll 8
    for (int r = 0; r < KY; ++r) window[r][c] = load_lanes<kPartial>(rows[r] + at, a.channels);
  }

  // The products of an output whose window is complete, which then moves on.
  template <int kSet>
  HWY_INLINE void products(const float* dy, V (&window)[KY][K]) {
    const V grad = load_lanes<kPartial>(dy, a.channels);
#pragma GCC unroll 8
    for (int r = 0; r < KY; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < K; ++c) sum[kSet][r][c] = hn::MulAdd(window[r][c], grad, sum[kSet][r][c]);
#pragma GCC unroll 8
      for (int c = 0; c < kKept; ++c) window[r][c] = window[r][c + S];
    }
  }

  // An output whose new columns exist, from pixel p[r] on.
  template <int kSet, bool kFetches>
  HWY_INLINE void inner_output(const float* (&p)[KY], const float*& dy, V (&window)[KY][K],
                               Ahead& ahead) {
#pragma GCC unroll 8
    for (int r = 0; r < KY; ++r) {
#pragma GCC unroll 8
      for (int c = kKept; c < K; ++c) {
        window[r][c] =
            load_lanes<kPartial>(p[r] + static_cast<size_t>(c - kKept) * a.in_pixel, a.channels);
      }
      p[r] += S * a.in_pixel;
    }
    products<kSet>(dy, window);
    dy += a.out_pixel;
    if (!kFetches) return;
#pragma GCC unroll 4
    for (size_t i = 0; i < S * S; ++i) prefetch_to_l2(ahead.x + i * kLineFloats);
    prefetch_to_l2(ahead.dy);
    ahead.x += S * S * kLineFloats;
    ahead.dy += kLineFloats;
  }

  // Outputs [begin, end), whose new columns may lie outside the row.
  HWY_INLINE void border_outputs(const float* const (&rows)[KY], const float* dy, int64_t begin,
                                 int64_t end, V (&window)[KY][K]) {
    for (int64_t j = begin; j < end; ++j) {
#pragma GCC unroll 8
      for (int c = kKept; c < K; ++c) load_column(rows, j * S + c - a.columns.pad, c, window);
      products<0>(dy + static_cast<size_t>(j) * a.out_pixel, window);
    }
  }

  // A row of outputs; of those in [left, right) all new columns exist.
  template <bool kFetches>
  HWY_INLINE void row(const float* const (&rows)[KY], const float* dy, int64_t left, int64_t right,
                      Ahead ahead) {
    V window[KY][K];
#pragma GCC unroll 8
    for (int c = 0; c < kKept; ++c) load_column(rows, c - a.columns.pad, c, window);
    border_outputs(rows, dy, 0, left, window);
    const int64_t first = (left * S + kKept - a.columns.pad) * static_cast<int64_t>(a.in_pixel);
    const float* p[KY];
#pragma GCC unroll 8
    for (int r = 0; r < KY; ++r) p[r] = rows[r] + first;
    const float* inner = dy + static_cast<size_t>(left) * a.out_pixel;
    for (int64_t pairs = (right - left) / 2; pairs > 0; --pairs) {
      inner_output<0, kFetches>(p, inner, window, ahead);
      inner_output<kSets - 1, kFetches>(p, inner, window, ahead);
    }
    if ((right - left) % 2) inner_output<0, kFetches>(p, inner, window, ahead);
    border_outputs(rows, dy, right, a.out_width, window);
  }

  HWY_INLINE void clear() {
    for (auto& set : sum) {
      for (auto& row : set) std::fill(row, row + K, hn::Zero(D()));
    }
  }

  HWY_INLINE void flush(int64_t ky) {
    const D d;
    const size_t lanes = hn::Lanes(d);
    for (int r = 0; r < KY; ++r) {
      for (int k = 0; k < K; ++k) {
        float* p = a.dw + static_cast<size_t>((ky + r) * K + k) * lanes;
        V total = sum[0][r][k];
        for (int set = 1; set < kSets; ++set) total = hn::Add(total, sum[set][r][k]);
        hn::Store(hn::Add(hn::Load(d, p), total), d, p);
      }
    }
    clear();
  }

  HWY_INLINE void run(int64_t ky) {
    clear();
    const int64_t flush_rows = HWY_MAX(int64_t{1}, kFlush / a.out_width);
    const int64_t left =
        HWY_MIN(a.out_width, HWY_MAX(int64_t{0}, (a.columns.pad - kKept + S - 1) / S));
    const int64_t room = a.in_width + a.columns.pad - K;
    const int64_t right = HWY_MAX(left, HWY_MIN(a.out_width, room < 0 ? 0 : room / S + 1));
    for (int64_t i = a.row_begin; i < a.row_end; ++i) {
      const float* rows[KY];
      for (int r = 0; r < KY; ++r) {
        const int64_t y = i * a.rows.stride + (ky + r) * a.rows.dilation - a.rows.pad;
        const bool exists = y >= 0 && y < a.in_height;
        rows[r] = exists ? a.x + static_cast<size_t>(y * a.in_width) * a.in_pixel : a.zeros;
      }
      const float* dy = a.dy + static_cast<size_t>(i * a.out_width) * a.out_pixel;
      const int64_t done = i - a.row_begin;
      if (!kPartial && a.x_ahead && a.dy_ahead && done % kGroups == ky / kOfGroup) {
        const size_t lines = static_cast<size_t>(done * a.out_width) * kLineFloats;
        row<true>(rows, dy, left, right, {a.x_ahead + S * S * lines, a.dy_ahead + lines});
      } else {
        row<false>(rows, dy, left, right, {});
      }
      if ((i + 1 - a.row_begin) % flush_rows == 0) flush(ky);
    }
    flush(ky);
  }
};

// The window's rows in groups of KY, the rest at once.
template <int K, int KY, int S, bool kPartial>
void square_window(const DepthwiseWeightGradient& args) {
  const DepthwiseWeightGradient a = args;
  for (int64_t ky = 0; ky + KY <= K; ky += KY) TapRows<K, KY, S, kPartial>{a, {}}.run(ky);
  constexpr int kRest = K % KY;
  if constexpr (kRest > 0) TapRows<K, kRest, S, kPartial>{a, {}}.run(K - kRest);
}

// Any window, a tap at a time; eight sums hide FMA's latency.
template <bool kPartial>
void any_window(const DepthwiseWeightGradient& a) {
  constexpr int kSums = 8;
  const D d;
  const size_t lanes = hn::Lanes(d);
  // Outputs o in [first, out) with 0 ≤ o·stride + tap·dilation − pad < size.
  const auto outputs = [](const Window& w, int64_t tap, int64_t size, int64_t first, int64_t out) {
    const int64_t from = w.pad - tap * w.dilation;
    const int64_t begin = from <= 0 ? 0 : (from + w.stride - 1) / w.stride;
    const int64_t room = size - 1 + from;
    return std::pair(HWY_MAX(first, begin),
                     HWY_MIN(out, room < 0 ? int64_t{0} : room / w.stride + 1));
  };
  const size_t step = static_cast<size_t>(a.columns.stride) * a.in_pixel;
  for (int64_t ky = 0; ky < a.rows.size; ++ky) {
    const auto [top, bottom] = outputs(a.rows, ky, a.in_height, a.row_begin, a.row_end);
    for (int64_t kx = 0; kx < a.columns.size; ++kx) {
      const auto [left, right] = outputs(a.columns, kx, a.in_width, 0, a.out_width);
      V total = hn::Zero(d);
      for (int64_t i = top; i < bottom; ++i) {
        const int64_t y = i * a.rows.stride + ky * a.rows.dilation - a.rows.pad;
        const int64_t x0 = left * a.columns.stride + kx * a.columns.dilation - a.columns.pad;
        const float* x = a.x + static_cast<size_t>(y * a.in_width + x0) * a.in_pixel;
        const float* dy = a.dy + static_cast<size_t>(i * a.out_width + left) * a.out_pixel;
        V sum[kSums];
        std::fill(sum, sum + kSums, hn::Zero(d));
        int64_t j = left;
        for (; j + kSums <= right; j += kSums) {
#pragma GCC unroll 8
          for (V& s : sum) {
            s = hn::MulAdd(load_lanes<kPartial>(x, a.channels),
                           load_lanes<kPartial>(dy, a.channels), s);
            x += step;
            dy += a.out_pixel;
          }
        }
        for (; j < right; ++j, x += step, dy += a.out_pixel) {
          sum[0] = hn::MulAdd(load_lanes<kPartial>(x, a.channels),
                              load_lanes<kPartial>(dy, a.channels), sum[0]);
        }
        for (int s = 1; s < kSums; ++s) sum[0] = hn::Add(sum[0], sum[s]);
        total = hn::Add(total, sum[0]);
      }
      float* p = a.dw + static_cast<size_t>(ky * a.columns.size + kx) * lanes;
      hn::Store(hn::Add(hn::Load(d, p), total), d, p);
    }
  }
}

template <int K, int S, bool kPartial>
void known_window(const DepthwiseWeightGradient& a) {
  square_window<K, rows_at_once(K), S, kPartial>(a);
}

template <bool kPartial>
void depthwise_window(const DepthwiseWeightGradient& a) {
  const Window &r = a.rows, &c = a.columns;
  if (r.size == c.size && c.dilation == 1 && c.stride <= 2) {
    const bool two = c.stride == 2;
    switch (c.size) {
      case 3:
        return two ? known_window<3, 2, kPartial>(a) : known_window<3, 1, kPartial>(a);
      case 5:
        return two ? known_window<5, 2, kPartial>(a) : known_window<5, 1, kPartial>(a);
      case 7:
        return two ? known_window<7, 2, kPartial>(a) : known_window<7, 1, kPartial>(a);
      default:
        break;
    }
  }
  any_window<kPartial>(a);
}

void depthwise_weight(const DepthwiseWeightGradient& a) {
  if (a.channels < hn::Lanes(D())) {
    depthwise_window<true>(a);
  } else {
    depthwise_window<false>(a);
  }
}

// One tile of C; kPartial: its last vector is not whole.
template <size_t kRows, size_t kVectors, bool kPartial>
HWY_NOINLINE void tile(const OuterProducts& args) {
  const OuterProducts o = args;
  const D d;
  const size_t lanes = hn::Lanes(d), rest = o.columns - (kVectors - 1) * lanes;
  const auto load_vector = [&](const float* p, size_t v) HWY_ATTR {
    return kPartial && v + 1 == kVectors ? load_first(d, rest, p + v * lanes)
                                         : hn::LoadU(d, p + v * lanes);
  };
  const float* a = o.a;
  const float* b = o.b;
  const char* ahead = o.ahead;
  for (size_t done = 0; done < o.count;) {
    const size_t part = HWY_MIN(o.count - done, static_cast<size_t>(kFlush));
    V sum[kRows][kVectors];
    for (auto& row : sum) std::fill(row, row + kVectors, hn::Zero(d));
    for (size_t p = 0; p < part; ++p, a += o.a_step, b += o.b_step) {
      V x[kVectors];
#pragma GCC unroll 2
      for (size_t v = 0; v < kVectors; ++v) x[v] = load_vector(b, v);
      prefetch_to_l2(ahead);
      ahead += o.ahead_step;
#pragma GCC unroll 12
      for (size_t i = 0; i < kRows; ++i) {
        const V s = broadcast(a + i);
#pragma GCC unroll 2
        for (size_t v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(s, x[v], sum[i][v]);
      }
    }
    done += part;
#pragma GCC unroll 12
    for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (size_t v = 0; v < kVectors; ++v) {
        float* c = o.c + i * o.c_step;
        const V total = hn::Add(load_vector(c, v), sum[i][v]);
        if (kPartial && v + 1 == kVectors) {
          store_first(d, total, rest, c + v * lanes);
        } else {
          hn::StoreU(total, d, c + v * lanes);
        }
      }
    }
  }
}

using TileFunction = void (*)(const OuterProducts&);

// [rows - 1][vectors - 1][last one partial]
template <size_t... I>
constexpr std::array<std::array<std::array<TileFunction, 2>, 2>, kTileRows> tile_functions(
    std::index_sequence<I...>) {
  return {{{{{tile<I + 1, 1, false>, tile<I + 1, 1, true>},
             {tile<I + 1, 2, false>, tile<I + 1, 2, true>}}}...}};
}

void outer_products(const OuterProducts& o) {
  static constexpr auto kTiles = tile_functions(std::make_index_sequence<kTileRows>());
  const size_t lanes = hn::Lanes(D());
  const size_t vectors = (o.columns + lanes - 1) / lanes;
  kTiles[o.rows - 1][vectors - 1][o.columns % lanes != 0](o);
}

const GradientKernels& kernels() {
  static const GradientKernels table = {hn::Lanes(D()), kTileRows, 2 * hn::Lanes(D()),
                                        depthwise_weight, outer_products};
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
const GradientKernels& gradient_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
