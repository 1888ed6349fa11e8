// Splits floats into three bf16 parts, for AMX. Per part of a value: take the upper half of its
// bits (an `and`), subtract it, and gather the halves of two vectors (a permutation); 1.5 bytes
// are written per byte read. It is done once for a row's products with all columns, and once for a
// panel's with all rows of a call.

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bf16_parts.cc"
#include "kernels/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>

#include "kernels/bf16_parts.h"

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using U = hn::RebindToUnsigned<D>;
using Bits = hn::Vec<U>;

HWY_INLINE Bits upper(Bits bits) { return hn::And(bits, hn::Set(U(), 0xFFFF0000u)); }

// What is left of a value without its upper part; rounds nothing.
HWY_INLINE V without(V v, Bits part) { return hn::Sub(v, hn::BitCast(D(), part)); }

// The upper halves of low's lanes, then of high's.
HWY_INLINE void store_upper(Bits low, Bits high, std::uint16_t* HWY_RESTRICT to) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = static_cast<std::uint16_t>(hn::GetLane(low) >> 16);
  to[1] = static_cast<std::uint16_t>(hn::GetLane(high) >> 16);
#else
  const hn::Repartition<std::uint16_t, U> d;
  hn::Store(hn::ConcatOdd(d, hn::BitCast(d, high), hn::BitCast(d, low)), d, to);
#endif
}

HWY_INLINE Bits magnitude(V v) { return hn::And(hn::BitCast(U(), v), hn::Set(U(), 0x7FFFFFFFu)); }

// One tile's depth of a row, `part` numbers from a part to the next.
HWY_INLINE Bits split_depth(const float* x, std::uint16_t* HWY_RESTRICT to, std::size_t part,
                            Bits largest) {
  const D d;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t i = 0; i < kAmxDepth; i += 2 * lanes) {
    V low = hn::LoadU(d, x + i), high = hn::LoadU(d, x + i + lanes);
    largest = hn::Max(largest, hn::Max(magnitude(low), magnitude(high)));
    for (std::size_t p = 0; p < kBf16Parts; ++p) {
      const Bits taken_low = hn::BitCast(U(), low), taken_high = hn::BitCast(U(), high);
      store_upper(taken_low, taken_high, to + p * part + i);
      low = without(low, upper(taken_low));
      high = without(high, upper(taken_high));
    }
  }
  return largest;
}

// `count` values of a row.
HWY_INLINE Bits split_some(const float* x, std::size_t count, std::uint16_t* HWY_RESTRICT to,
                           std::size_t part) {
  Bits largest = hn::Zero(U());
  for (; count >= kAmxDepth; count -= kAmxDepth, x += kAmxDepth, to += kBf16Parts * part) {
    largest = split_depth(x, to, part, largest);
  }
  if (count == 0) return largest;
  float rest[kAmxDepth] = {};
  std::copy_n(x, count, rest);
  return split_depth(rest, to, part, largest);
}

// A few tiles' depth of all rows before the next, so that what is written stays in L1 until its
// lines are complete.
void split_rows(const Bf16Rows& t) {
  constexpr std::size_t kSome = 4 * kAmxDepth;
  const std::size_t part = t.tile_rows * kAmxDepth;
  std::uint16_t* to = t.to;
  for (std::size_t k = 0; k < t.count; k += kSome, to += kSome * kBf16Parts * t.tile_rows) {
    const std::size_t count = HWY_MIN(kSome, t.count - k);
    for (std::size_t i = 0; i < t.rows; ++i) {
      const Bits largest = split_some(t.row[i] + k, count, to + i * kAmxDepth, part);
      t.largest[i] = HWY_MAX(t.largest[i], hn::GetLane(hn::MaxOfLanes(U(), largest)));
    }
  }
}

// Two rows of a panel's tile: column by column, the parts of the upper row's value beside those of
// the lower one's.
HWY_INLINE void split_pair(V first, V second, std::uint32_t* HWY_RESTRICT to) {
  for (std::size_t p = 0; p < kBf16Parts; ++p, to += kAmxDepth / 2 * kAmxColumns) {
    const Bits a = hn::BitCast(U(), first), b = hn::BitCast(U(), second);
    hn::Store(hn::Or(hn::ShiftRight<16>(a), upper(b)), U(), to);
    first = without(first, upper(a));
    second = without(second, upper(b));
  }
}

void split_panel(const float* panel, std::size_t count, std::size_t width, std::uint16_t* to) {
  const D d;
  constexpr std::size_t kTile = kAmxTileParts / 2, kPairs = kAmxDepth / 2;
  const std::size_t steps = (count + kAmxDepth - 1) / kAmxDepth;
  auto* HWY_RESTRICT step = reinterpret_cast<std::uint32_t*>(to);
  for (std::size_t k = 0; k < count; step += kTile) {
    for (std::size_t pair = 0; pair < kPairs; ++pair, k += 2, panel += 2 * width) {
      for (std::size_t j = 0; j < width; j += hn::Lanes(d)) {
        const V first = k < count ? hn::Load(d, panel + j) : hn::Zero(d);
        const V second = k + 1 < count ? hn::Load(d, panel + width + j) : hn::Zero(d);
        split_pair(first, second,
                   step + j / kAmxColumns * steps * kTile + pair * kAmxColumns + j % kAmxColumns);
      }
    }
  }
}

void largest_of_columns(const float* panel, std::size_t count, std::size_t width,
                        std::uint32_t* to) {
  const D d;
  for (std::size_t j = 0; j < width; j += hn::Lanes(d)) {
    Bits largest = hn::Zero(U());
    for (std::size_t k = 0; k < count; ++k) {
      largest = hn::Max(largest, magnitude(hn::Load(d, panel + k * width + j)));
    }
    hn::StoreU(largest, U(), to + j);
  }
}

const Bf16PartsKernels& kernels() {
  static const Bf16PartsKernels table = {split_rows, split_panel, largest_of_columns};
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
const Bf16PartsKernels& bf16_parts_kernels() { return dispatched(HWY_DISPATCH_TABLE(kernels))(); }
}  // namespace sepconv
#endif
