#include "cli/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

namespace sepconv::cli {

namespace {
constexpr std::size_t kWidth = 30;
}

Progress::Progress(std::size_t total)
    : total_(total), active_(total > 1 && isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() { clear(); }

void Progress::show(std::size_t done, const std::string& what) {
  if (!active_) return;
  const std::size_t filled = kWidth * done / total_;
  fmt::print(stderr, "\r\033[K[{}{}] {}/{} {}", std::string(filled, '#'),
             std::string(kWidth - filled, ' '), done, total_, what);
  std::fflush(stderr);
}

void Progress::clear() {
  if (!active_) return;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
}

}  // namespace sepconv::cli
