#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace sepconv {

/// What this machine offers to one core.
struct CpuInfo {
  std::string name;                        ///< as the system gives it, and family and model
  std::vector<std::string> targets;        ///< usable instruction sets, best first
  std::vector<std::string> built_targets;  ///< those compiled into this library, best first
  std::string target;                      ///< the one that new ops use
  bool paired_products = false;            ///< see set_paired_products
  std::size_t l1_bytes = 0;                ///< data cache of a core
  std::size_t l2_bytes = 0;
  std::size_t l3_bytes = 0;  ///< shared by the cores
};

/// Facts of this machine. `SEPCONV_TARGET` (AMX, AVX3, AVX2, SSE4, SCALAR, NEON) in the environment
/// caps `target`; an unknown or unusable name is an ArgumentError.
CpuInfo cpu_info();

/// Lets ops built from now on use `target` or a lesser instruction set; an empty name lifts the
/// cap. Ops that exist keep theirs. Throws ArgumentError for a name that is not among the usable
/// targets.
void set_target(const std::string& target);

/// Lets networks built from now on trade products for additions (docs/numerics.md), or not: pairs
/// in sums, and products that neighbouring outputs of depthwise layers share. Without a value as at
/// first: as SEPCONV_PAIRS (0 or 1) in the environment says, or else with AVX3 on Zen 4 and, for
/// pairs, Zen 5, which add beside multiplying.
void set_paired_products(std::optional<bool> allowed);

/// Limits of one core, measured now with the target that new ops use (about 0.1 s each).
double measure_peak_gflops();
/// Gigabytes per second at which one core reads `bytes` again and again: choose them to fit the
/// cache level in question.
double measure_read_gbps(std::size_t bytes);

}  // namespace sepconv
