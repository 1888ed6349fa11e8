#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "base/pages.h"

namespace sepconv {

inline constexpr std::size_t kAlignment = 64;
/// Floats of a cache line.
inline constexpr std::size_t kLineFloats = kAlignment / sizeof(float);
constexpr bool whole_lines(std::int64_t floats) {
  return floats % static_cast<std::int64_t>(kLineFloats) == 0;
}

constexpr std::size_t align_up(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

inline bool is_aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % kAlignment == 0;
}

/// A load waits for stores before it whose addresses have the same low twelve bits, and the pixels
/// of 128 · n channels repeat these every few pixels: where an op reads one image and writes
/// another, a multiple of this between the two makes a depthwise layer take up to twice as long.
inline constexpr std::size_t kStagger = 512;

/// The first place from `at` on that is `line` cache lines beyond a multiple of kStagger.
constexpr std::size_t stagger(std::size_t at, std::size_t line) {
  const std::size_t wanted = line * kAlignment % kStagger;
  return at + (wanted + kStagger - at % kStagger) % kStagger;
}

/// Bytes to skip of some room for an op's result of what lies at address x: it then begins on a
/// line, three from x's but for multiples of kStagger. Less than kStagger.
constexpr std::size_t result_offset(std::uintptr_t room, std::uintptr_t x) {
  return stagger(room, x / kAlignment + 3) - room;
}

struct AlignedFree {
  void operator()(void* p) const {
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(p);
    ::operator delete (reinterpret_cast<void*>(address / kStagger * kStagger),
                       std::align_val_t{kStagger});
  }
};

template <class T>
using AlignedArray = std::unique_ptr<T[], AlignedFree>;

/// `count` elements on a 64-byte boundary, zeroed; each time at the next of kStagger's lines, so
/// that arrays made one after the other are staggered. T is a plain number or pointer.
template <class T>
AlignedArray<T> make_aligned(std::size_t count) {
  static std::atomic<std::size_t> made = 0;
  const std::size_t line = made.fetch_add(1, std::memory_order_relaxed);
  const std::size_t bytes = align_up(count * sizeof(T) + 1) + kStagger;
  auto* p = static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kStagger}));
  prefer_huge_pages(p, bytes);
  T* array = reinterpret_cast<T*>(p + stagger(0, line));
  std::uninitialized_value_construct_n(array, count);
  return AlignedArray<T>(array);
}

/// Hands out consecutive pieces of a workspace, each on a 64-byte boundary.
class Carver {
 public:
  explicit Carver(std::byte* begin) : begin_(begin), next_(begin) {}

  template <class T>
  T* take(std::size_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += align_up(count * sizeof(T));
    return piece;
  }

  /// The same, staggered from where the workspace begins: up to kStagger bytes more.
  template <class T>
  T* take_staggered(std::size_t count, std::size_t line) {
    next_ = begin_ + stagger(static_cast<std::size_t>(next_ - begin_), line);
    return take<T>(count);
  }

  std::byte* rest() const { return next_; }

 private:
  std::byte *begin_, *next_;
};

}  // namespace sepconv
