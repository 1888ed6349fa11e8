// clang-format off
#include "kernels/targets.h"
#include <hwy/highway.h>
// clang-format on
#include "base/cpu.h"

#include <hwy/targets.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/amx.h"
#include "base/check.h"
#include "sepconv/cpu.h"

namespace sepconv {
namespace {

std::vector<std::int64_t> split(std::int64_t targets) {
  std::vector<std::int64_t> list;
  for (; targets != 0; targets &= targets - 1) list.push_back(targets & -targets);
  return list;
}

// Lower, that is better, than all of Highway's.
constexpr std::int64_t kAmx = 1;
static_assert((HWY_TARGETS & kAmx) == 0);
constexpr std::int64_t kBuiltTargets = HWY_TARGETS | (kAmxBuilt ? kAmx : 0);

std::string target_name(std::int64_t target) {
  return target == kAmx ? "AMX" : hwy::TargetName(target);
}

std::vector<std::string> names(std::int64_t targets) {
  std::vector<std::string> list;
  for (std::int64_t target : split(targets)) list.push_back(target_name(target));
  return list;
}

std::int64_t machine_targets() {
  static const std::int64_t targets = [] {
    const std::int64_t found = hwy::SupportedTargets() & HWY_TARGETS;
    return (found & HWY_AVX3) != 0 && request_amx() ? found | kAmx : found;
  }();
  return targets;
}

std::int64_t capped(const std::string& name, const char* what) {
  std::string known;
  for (std::int64_t target : split(kBuiltTargets)) {
    if (name != target_name(target)) {
      known += (known.empty() ? "" : ", ") + target_name(target);
      continue;
    }
    const std::int64_t allowed = machine_targets() & ~(target - 1);
    check((machine_targets() & target) != 0, "{}: this machine has no {}", what, name);
    return allowed;
  }
  throw ArgumentError(fmt::format("{}: got '{}', expected one of {}", what, name, known));
}

std::atomic<std::int64_t>& cap() {
  static std::atomic<std::int64_t> targets = [] {
    const char* name = std::getenv("SEPCONV_TARGET");
    return name && *name ? capped(name, "SEPCONV_TARGET") : machine_targets();
  }();
  return targets;
}

// Zen 4 and 5 have two units for additions beside the two that multiply and add: half a vector of
// AVX3 wide, and a whole one. Of Zen 5 those models are named whose units are known to be whole.
Adders adders_beside_multiplying() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 0) return Adders::kNone;
  const bool amd = ebx == signature_AMD_ebx && ecx == signature_AMD_ecx && edx == signature_AMD_edx;
  if (!amd || __get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return Adders::kNone;
  constexpr unsigned kZen3And4 = 0x19, kZen5 = 0x1a;
  const unsigned family = (eax >> 8 & 15) + (eax >> 20 & 255);
  const unsigned model = (eax >> 4 & 15) + (eax >> 12 & 0xf0);
  if ((machine_targets() & HWY_AVX3) == 0) return Adders::kNone;
  if (family == kZen3And4) return Adders::kHalf;
  const bool server = model < 0x20, desktop = model >> 4 == 4;
  return family == kZen5 && (server || desktop) ? Adders::kWhole : Adders::kNone;
#else
  return Adders::kNone;
#endif
}

enum class Pairs { kWherePaid, kNever, kAlways };

Pairs default_pairs() {
  const char* name = std::getenv("SEPCONV_PAIRS");
  const std::string given = name ? name : "";
  if (given.empty()) return Pairs::kWherePaid;
  check(given == "0" || given == "1", "SEPCONV_PAIRS: got '{}', expected 0 or 1", given);
  return given == "1" ? Pairs::kAlways : Pairs::kNever;
}

std::atomic<Pairs>& pairs() {
  static std::atomic<Pairs> chosen = default_pairs();
  return chosen;
}

std::optional<Adders>& assumed_adders() {
  static std::optional<Adders> adders;
  return adders;
}

std::size_t cache_bytes(int name, std::size_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<std::size_t>(bytes) : otherwise;
}

// As Linux tells it: sysconf gives ten times as much on some virtual machines. 0: unknown.
std::size_t l3_cache_bytes() {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");
  std::size_t kib = 0;
  return file >> kib ? kib << 10 : 0;
}

// As the operating system gives it, with family and model: virtual machines are often all called
// the same.
std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  std::map<std::string, std::string> fields;  // of the first core
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) {
      fields[line.substr(0, line.find_first_of("\t:"))] = line.substr(colon + 2);
    }
  }
  const std::string &name = fields["model name"], &family = fields["cpu family"];
  if (name.empty()) return "unknown";
  if (family.empty()) return name;
  return fmt::format("{} (family {}, model {})", name, family, fields["model"]);
}

}  // namespace

std::int64_t usable_targets() { return cap().load(std::memory_order_relaxed) & HWY_TARGETS; }

bool amx_usable() { return (cap().load(std::memory_order_relaxed) & kAmx) != 0; }

Adders adders() {
  static const Adders found = adders_beside_multiplying();
  const std::optional<Adders> assumed = assumed_adders();
  return (usable_targets() & HWY_AVX3) != 0 ? assumed.value_or(found) : Adders::kNone;
}

void assume_adders(std::optional<Adders> adders) { assumed_adders() = adders; }

Adders adders_traded_for() {
  const Pairs chosen = pairs().load(std::memory_order_relaxed);
  if (chosen == Pairs::kWherePaid) return adders();
  return chosen == Pairs::kAlways ? Adders::kHalf : Adders::kNone;
}

std::size_t l1_cache_bytes() {
  static const std::size_t bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  return bytes;
}

std::size_t l2_cache_bytes() {
  static const std::size_t bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 512 << 10);
  return bytes;
}

void set_target(const std::string& target) {
  cap() = target.empty() ? machine_targets() : capped(target, "target");
}

void set_paired_products(std::optional<bool> allowed) {
  const Pairs given = allowed.value_or(false) ? Pairs::kAlways : Pairs::kNever;
  pairs() = allowed ? given : default_pairs();
}

CpuInfo cpu_info() {
  CpuInfo info;
  info.name = processor_name();
  info.targets = names(machine_targets());
  info.built_targets = names(kBuiltTargets);
  info.target = names(cap()).front();
  info.paired_products = adders_traded_for() != Adders::kNone;
  info.l1_bytes = l1_cache_bytes();
  info.l2_bytes = l2_cache_bytes();
  info.l3_bytes = l3_cache_bytes();
  return info;
}

}  // namespace sepconv
