#include "ops/window.h"

#include <fmt/format.h>

#include <set>

namespace sepconv {

std::string describe_steps(const Window2d& window) {
  const std::int64_t stride = window.rows.stride, dilation = window.rows.dilation;
  return (stride > 1 ? fmt::format(" s{}", stride) : "") +
         (dilation > 1 ? fmt::format(" d{}", dilation) : "");
}

namespace {

// The outputs for which a tap lies within the input.
RowRange inside(const Window& w, std::int64_t tap, std::int64_t size, std::int64_t outputs) {
  const auto first_from = [&](std::int64_t position) {
    const std::int64_t ahead = position + w.pad - tap * w.dilation;
    return std::clamp<std::int64_t>(ahead > 0 ? (ahead + w.stride - 1) / w.stride : 0, 0, outputs);
  };
  return {first_from(0), first_from(size)};
}

}  // namespace

std::vector<Stretch> stretches(const Window& w, std::int64_t size, std::int64_t outputs) {
  std::set<std::int64_t> ends{outputs};
  std::vector<RowRange> taps;
  for (std::int64_t tap = 0; tap < w.size; ++tap) {
    taps.push_back(inside(w, tap, size, outputs));
    ends.insert({taps.back().begin, taps.back().end});
  }
  std::vector<Stretch> all;
  std::int64_t begin = 0;
  for (const std::int64_t end : ends) {
    if (end == begin) continue;
    const auto has = [&](const RowRange& tap) { return tap.begin <= begin && end <= tap.end; };
    all.push_back({{begin, end}, std::count_if(taps.begin(), taps.end(), has)});
    begin = end;
  }
  return all;
}

}  // namespace sepconv
