#pragma once

#include <cstddef>
#include <cstdint>

namespace sepconv {

/// A size that is known not to be negative, as an index.
constexpr std::size_t to_size(std::int64_t n) { return static_cast<std::size_t>(n); }

constexpr std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace sepconv
