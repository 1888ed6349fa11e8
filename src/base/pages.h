#pragma once

#include <cstddef>

namespace sepconv {

/// Asks the operating system for huge pages behind memory that was allocated and not yet written:
/// a system call instead of a page fault for every 4 KiB, which take longer than a convolution
/// does. Only a hint: where pages are few, or no such hint is taken, nothing happens.
void prefer_huge_pages(void* begin, std::size_t bytes);

}  // namespace sepconv
