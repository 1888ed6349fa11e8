#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/commands.h"
#include "sepconv/sepconv.h"

namespace sepconv::cli {

namespace {

void info() {
  const CpuInfo cpu = cpu_info();
  fmt::print("sepconv {}\n", SEPCONV_VERSION);
  fmt::print("processor        {}, {} usable\n", cpu.name, available_processors());
  fmt::print("targets          {}\n", fmt::join(cpu.targets, " "));
  for (const std::string& target : cpu.built_targets) {
    if (std::find(cpu.targets.begin(), cpu.targets.end(), target) == cpu.targets.end()) {
      fmt::print("not on this CPU  {}\n", target);
    }
  }
  fmt::print("target in use    {}\n", cpu.target);
  fmt::print("paired products  {}\n", cpu.paired_products ? "in networks" : "no");
  fmt::print("FMA peak         {:.0f} GFLOP/s a core\n", measure_peak_gflops());
  const auto cache = [](const char* name, std::size_t bytes) {
    if (bytes == 0) return;
    fmt::print("{:<16} {} KiB, read at {:.0f} GB/s\n", name, bytes / 1024,
               measure_read_gbps(std::min<std::size_t>(bytes / 2, 64 << 20)));
  };
  cache("L1 data cache", cpu.l1_bytes);
  cache("L2 cache", cpu.l2_bytes);
  cache("L3 cache", cpu.l3_bytes);
}

}  // namespace

void add_info(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Show what this machine offers and what is used");
  command->footer("Example:\n  SEPCONV_TARGET=AVX2 sepconv info");
  command->callback([] { info(); });
}

}  // namespace sepconv::cli
