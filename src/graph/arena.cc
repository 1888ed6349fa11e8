#include <algorithm>
#include <numeric>

#include "base/aligned.h"
#include "graph/plan.h"

namespace sepconv {

ArenaPlan plan_arena(const std::vector<std::size_t>& bytes, const std::vector<int>& first_use,
                     const std::vector<int>& last_use) {
  ArenaPlan plan;
  plan.offset.resize(bytes.size(), 0);
  std::vector<std::size_t> order(bytes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return bytes[a] > bytes[b]; });
  std::vector<std::size_t> placed;
  for (std::size_t v : order) {
    if (bytes[v] == 0) continue;
    // The lowest gap between values that are alive together with this one.
    std::vector<std::size_t> rivals;
    for (std::size_t other : placed) {
      if (first_use[v] <= last_use[other] && first_use[other] <= last_use[v]) {
        rivals.push_back(other);
      }
    }
    std::sort(rivals.begin(), rivals.end(),
              [&](std::size_t a, std::size_t b) { return plan.offset[a] < plan.offset[b]; });
    // Values in chains are at odd lines: see Chain.
    const std::size_t line = 2 * static_cast<std::size_t>(first_use[v]);
    std::size_t at = stagger(0, line);
    for (std::size_t rival : rivals) {
      if (at + align_up(bytes[v]) <= plan.offset[rival]) break;
      at = std::max(at, stagger(plan.offset[rival] + align_up(bytes[rival]), line));
    }
    plan.offset[v] = at;
    plan.bytes = std::max(plan.bytes, at + align_up(bytes[v]));
    placed.push_back(v);
  }
  return plan;
}

}  // namespace sepconv
