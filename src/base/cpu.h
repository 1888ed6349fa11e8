#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace sepconv {

/// Highway's targets (a bit each, lower is better) that new ops may use: what the machine has, what
/// this library was compiled for, and no better than the cap.
std::int64_t usable_targets();

/// Whether new ops may multiply on AMX's tiles of bf16 numbers: a target of its own above AVX3, for
/// what it has instructions for.
bool amx_usable();

/// What a core adds in a cycle while it multiplies and adds at its full rate.
enum class Adders {
  kNone,
  kHalf,   ///< two halves of AVX3's vectors, which are multiplied by halves too: Zen 4
  kWhole,  ///< two of AVX3's vectors, so that loads come short: Zen 5
};

/// With the usable targets. (With AVX2, values have to be broadcast by loads of their own, of which
/// there are two a cycle: no more than are needed for multiplying alone.)
Adders adders();
/// For tests: what AVX3 is taken to have from now on; without a value, what the machine has. They
/// must not run beside others that build ops.
void assume_adders(std::optional<Adders> adders);

/// Those for which new ops may trade products for additions: this core's, unless
/// set_paired_products or SEPCONV_PAIRS say otherwise: none, or as where they are halves.
Adders adders_traded_for();

/// L2 bytes of one core; what tile and band sizes are derived from.
std::size_t l2_cache_bytes();

/// More bytes than one core's share of the last cache is expected to hold. Not asked of the
/// machine: virtual ones name the cache of a whole socket.
inline constexpr std::size_t kBeyondCaches = std::size_t{24} << 20;
inline bool outgrows_caches(std::size_t floats) { return floats * sizeof(float) > kBeyondCaches; }
/// Whether so many floats, made some time ago, are expected to be out of the last cache by now.
inline bool comes_from_memory(std::size_t floats) {
  return floats * sizeof(float) > kBeyondCaches / 4;
}

/// L1 data cache bytes of one core.
std::size_t l1_cache_bytes();

}  // namespace sepconv
