#include "base/pages.h"

#include <sys/mman.h>

#include <cstdint>

namespace sepconv {

namespace {
// Below this an allocator tends to hand out memory that was used before (NumPy's limit, too).
constexpr std::size_t kLeastBytes = std::size_t{4} << 20;
constexpr std::uintptr_t kPage = 4096;
}  // namespace

void prefer_huge_pages(void* begin, std::size_t bytes) {
  if (bytes < kLeastBytes) return;
  const auto first = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t aligned = (first + kPage - 1) / kPage * kPage;
  // Whatever it answers: without huge pages everything works as well.
  static_cast<void>(
      madvise(reinterpret_cast<void*>(aligned), bytes - (aligned - first), MADV_HUGEPAGE));
}

}  // namespace sepconv
