#pragma once

#include <cstddef>

namespace sepconv {

inline constexpr std::size_t kPage = 4096;
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Asks the operating system for huge pages behind memory that was allocated and not yet written:
/// a system call instead of a page fault for every 4 KiB, which take longer than a convolution
/// does. Only a hint: where pages are few, or no such hint is taken, nothing happens.
void prefer_huge_pages(void* begin, std::size_t bytes);

/// `bytes`, uninitialised, from the beginning of a page, of a huge one where they fill it. Throws
/// std::bad_alloc.
std::byte* allocate_pages(std::size_t bytes);
/// `bytes` as they were allocated.
void free_pages(std::byte* begin, std::size_t bytes);

}  // namespace sepconv
