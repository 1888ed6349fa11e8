#include "graph/chains.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace sepconv {

namespace {
constexpr std::size_t kLongest = 12;
}  // namespace

// Dynamic programming over the last cut.
std::vector<Chains::Part> Chains::cut(ValueId begin, ValueId end) const {
  const std::size_t n = end - begin;
  std::vector<double> best(n + 1, std::numeric_limits<double>::infinity());
  std::vector<std::size_t> from(n + 1, 0);
  best[0] = 0;
  for (std::size_t e = 1; e <= n; ++e) {
    for (std::size_t b = e > kLongest ? e - kLongest : 0; b < e; ++b) {
      if (!is_joinable(begin + b, begin + e)) continue;
      const double price = best[b] + cost(begin + b, begin + e);
      if (price < best[e]) {
        best[e] = price;
        from[e] = b;
      }
    }
  }
  std::vector<Part> parts;
  for (std::size_t e = n; e > 0; e = from[e]) {
    const ValueId next = parts.empty() ? end : parts.back().end;
    const ValueId b = begin + from[e];
    parts.push_back({b, begin + e, why_cut(b, begin + e, next, end)});
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

// Why chain [b, e), which chain [e, next) follows, stops there; the nodes up to `end` could follow.
std::string Chains::why_cut(ValueId b, ValueId e, ValueId next, ValueId end) const {
  if (e == graph_.nodes.size()) return "";
  const auto named = [&](const char* what, ValueId i) {
    return fmt::format("{} {}", graph_.nodes[i].name, what);
  };
  if (e == end) return named(rows_[e] ? "reads another value" : "is not row-local", e);
  // With the whole next chain, if that can be, or with its first node alone.
  const bool whole = next - b <= kLongest && is_joinable(b, next);
  if (!whole) {
    if (e - b == kLongest) return "as long as a chain may be";
    for (const Obstacle& found : {obstacle(b, e + 1), obstacle(e + 1, next)}) {
      if (found.why) return named(found.why, found.node);
    }
  }
  const double apart = cost(b, e) + cost(e, next);
  const double joined = whole ? cost(b, next) : cost(b, e + 1) + cost(e + 1, next);
  return fmt::format("with {} the cost would be {:.0f} % higher", graph_.nodes[e].name,
                     100 * (joined / apart - 1));
}

// An op that makes one row of all: a chain that ends so runs on one thread, so that it starts one.
bool Chains::gathers(ValueId i) const {
  const std::int64_t height = rows_[i]->input().height;
  return rows_[i]->output().height == 1 && height > 1 &&
         rows_[i]->input_rows({0, 1}).size() == height;
}

// What keeps nodes [b, e) from being one chain: nobody outside reads what lies inside, but for what
// a chain can keep, and scales come from outside.
Chains::Obstacle Chains::obstacle(ValueId b, ValueId e) const {
  for (ValueId i = b; i < e; ++i) {
    if (is_scaled(i) && graph_.nodes[i].inputs.back() >= b) return {"has its scale from within", i};
    if (i > b && gathers(i)) return {"needs all rows", i};
  }
  for (ValueId i = b; i + 1 < e; ++i) {
    if (last_use_[i] >= e && !(i + 2 == e && is_row_mean(e - 1))) return {"is read again later", i};
  }
  return {};
}

bool Chains::is_row_mean(ValueId i) const {
  const auto* pool = std::get_if<Pool2dNode>(&graph_.nodes[i].op);
  return pool && pool->options.kernel.height == 1 && pool->options.stride.height == 1 &&
         pool->options.padding == Padding(0);
}

bool Chains::is_scaled(ValueId i) const {
  const auto* conv = std::get_if<Conv2dNode>(&graph_.nodes[i].op);
  return conv && conv->scaled;
}

std::vector<ValueId> Chains::sides(ValueId b, ValueId e) const {
  std::vector<ValueId> values;
  for (ValueId i = b; i < e; ++i) {
    const auto& inputs = graph_.nodes[i].inputs;
    for (std::size_t k = 1; k < inputs.size(); ++k) {
      if (inputs[k] < b) values.push_back(inputs[k]);
    }
  }
  return values;
}

Chain Chains::chain(ValueId b, ValueId e) const {
  std::vector<Chain::Stage> stages;
  int side = 0;
  for (ValueId i = b; i < e; ++i) {
    const Node& node = graph_.nodes[i];
    Chain::Stage stage{rows_[i], i == b ? Chain::kInput : static_cast<int>(i - b) - 1};
    for (std::size_t k = 1; k < node.inputs.size(); ++k) {
      const ValueId other = node.inputs[k];
      const int source = other >= b ? static_cast<int>(other - b) : Chain::side(side++);
      const bool is_scale = is_scaled(i) && k + 1 == node.inputs.size();
      (is_scale ? stage.scale : stage.operand) = source;
    }
    stage.kept = is_kept(i, e);
    stages.push_back(std::move(stage));
  }
  return Chain(std::move(stages));
}

}  // namespace sepconv
