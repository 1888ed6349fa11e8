#include "base/pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace sepconv {

namespace {

// Below this an allocator tends to hand out memory that was used before.
constexpr std::size_t kLeastBytes = std::size_t{1} << 20;

std::align_val_t alignment(std::size_t bytes) {
  return std::align_val_t{bytes < kHugePage ? kPage : kHugePage};
}

}  // namespace

void prefer_huge_pages(void* begin, std::size_t bytes) {
  if (bytes < kLeastBytes) return;
  // Outwards: a huge page needs all of its addresses to be of this kind.
  const auto first = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t from = first / kHugePage * kHugePage;
  const std::uintptr_t to = (first + bytes + kHugePage - 1) / kHugePage * kHugePage;
  // Whatever it answers: without huge pages everything works as well.
  static_cast<void>(madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE));
}

std::byte* allocate_pages(std::size_t bytes) {
  auto* begin = static_cast<std::byte*>(::operator new(bytes, alignment(bytes)));
  prefer_huge_pages(begin, bytes);
  return begin;
}

void free_pages(std::byte* begin, std::size_t bytes) { ::operator delete(begin, alignment(bytes)); }

}  // namespace sepconv
