#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <utility>

#include "sepconv/error.h"

namespace sepconv {

/// Throws `E` with the formatted message unless `ok`.
template <class E = ArgumentError, class... Args>
void check(bool ok, fmt::format_string<Args...> format, Args&&... args) {
  if (!ok) throw E(fmt::format(format, std::forward<Args>(args)...));
}

/// a·b for sizes ≥ 0; throws ArgumentError, naming `what`, if it passes 2^62.
inline std::int64_t checked_multiply(std::int64_t a, std::int64_t b, const char* what) {
  std::int64_t result = 0;
  const bool overflow = __builtin_mul_overflow(a, b, &result) || result > (std::int64_t{1} << 62);
  check(!overflow, "{}: {} x {} is too large", what, a, b);
  return result;
}

}  // namespace sepconv
