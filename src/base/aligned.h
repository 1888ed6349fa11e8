#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace sepconv {

inline constexpr std::size_t kAlignment = 64;

constexpr std::size_t align_up(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

struct AlignedFree {
  void operator()(void* p) const { ::operator delete (p, std::align_val_t{kAlignment}); }
};

template <class T>
using AlignedArray = std::unique_ptr<T[], AlignedFree>;

/// `count` elements on a 64-byte boundary, zeroed. T is a plain number or pointer.
template <class T>
AlignedArray<T> make_aligned(std::size_t count) {
  void* p = ::operator new (align_up(count * sizeof(T) + 1), std::align_val_t{kAlignment});
  T* array = static_cast<T*>(p);
  std::uninitialized_value_construct_n(array, count);
  return AlignedArray<T>(array);
}

/// Hands out consecutive pieces of a workspace, each on a 64-byte boundary.
class Carver {
 public:
  explicit Carver(std::byte* begin) : next_(begin) {}

  template <class T>
  T* take(std::size_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += align_up(count * sizeof(T));
    return piece;
  }

  std::byte* rest() const { return next_; }

 private:
  std::byte* next_;
};

}  // namespace sepconv
