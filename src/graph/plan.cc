#include "graph/plan.h"

#include <algorithm>
#include <limits>

#include "ops/arrange.h"
#include "ops/attention.h"
#include "ops/chain_op.h"
#include "ops/class_tokens.h"
#include "ops/concat.h"
#include "ops/factories.h"
#include "sepconv/error.h"

namespace sepconv {

namespace {

constexpr std::size_t kLongestChain = 12;

class Planner {
 public:
  Planner(const Graph& graph, const std::vector<Shape>& shapes, PackedStore& store)
      : graph_(graph),
        shapes_(shapes),
        store_(store),
        rows_(graph.nodes.size()),
        last_use_(graph.nodes.size(), 0),
        uses_(graph.nodes.size(), 0),
        slices_(graph.nodes.size()) {
    for (ValueId i = 1; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      rows_[i] = row_op_of(node, shapes[node.inputs[0]], shapes[i], store);
      for (ValueId input : node.inputs) {
        last_use_[input] = i;
        ++uses_[input];
      }
    }
    for (const ValueId output : graph.outputs) {
      last_use_[output] = graph.nodes.size();
      ++uses_[output];
    }
    for (ValueId i = 1; i < graph.nodes.size(); ++i) plan_slices(i);
  }

  std::vector<Step> run() {
    std::vector<Step> steps;
    for (ValueId i = 1; i < graph_.nodes.size();) {
      if (!rows_[i]) {
        if (!is_written(i)) steps.push_back(single(i));
        ++i;
        continue;
      }
      ValueId end = i + 1;
      while (end < graph_.nodes.size() && rows_[end] && graph_.nodes[end].inputs[0] == end - 1) {
        ++end;
      }
      for (auto [b, e] : cut(i, end)) steps.push_back(chained(b, e));
      i = end;
    }
    return steps;
  }

 private:
  struct Slice {
    ValueId whole = 0;
    std::int64_t channel = 0;
  };

  // Lets the nodes that a concatenation reads write into it, those that can and that it alone
  // reads.
  void plan_slices(ValueId i) {
    const Node& node = graph_.nodes[i];
    if (!std::holds_alternative<ConcatNode>(node.op)) return;
    std::int64_t channel = 0;
    for (const ValueId part : node.inputs) {
      const bool alone = uses_[part] == 1 && graph_.nodes[part].inputs.size() == 1;
      if (rows_[part] && alone && rows_[part]->can_slice()) {
        rows_[part]->slice_of(shapes_[i][1]);
        slices_[part] = {i, channel};
      }
      channel += shapes_[part][1];
    }
  }

  // A concatenation all of whose parts are there.
  bool is_written(ValueId i) const {
    const auto& inputs = graph_.nodes[i].inputs;
    return std::all_of(inputs.begin(), inputs.end(),
                       [&](ValueId part) { return slices_[part].whole == i; });
  }

  // The nodes [begin, end) each read the one before. Splits them into chains so that the sum of
  // their costs is least (dynamic programming over the last cut).
  std::vector<std::pair<ValueId, ValueId>> cut(ValueId begin, ValueId end) const {
    const std::size_t n = end - begin;
    std::vector<double> best(n + 1, std::numeric_limits<double>::infinity());
    std::vector<std::size_t> from(n + 1, 0);
    best[0] = 0;
    for (std::size_t e = 1; e <= n; ++e) {
      for (std::size_t b = e > kLongestChain ? e - kLongestChain : 0; b < e; ++b) {
        if (!joinable(begin + b, begin + e)) continue;
        const double price = best[b] + cost(begin + b, begin + e);
        if (price < best[e]) {
          best[e] = price;
          from[e] = b;
        }
      }
    }
    std::vector<std::pair<ValueId, ValueId>> parts;
    for (std::size_t e = n; e > 0; e = from[e]) parts.emplace_back(begin + from[e], begin + e);
    std::reverse(parts.begin(), parts.end());
    return parts;
  }

  // An op that makes one row of all: a chain that ends so runs on one thread, so that it starts
  // one.
  bool gathers(ValueId i) const {
    const std::int64_t height = rows_[i]->input().height;
    return rows_[i]->output().height == 1 && height > 1 &&
           rows_[i]->input_rows({0, 1}).size() == height;
  }

  bool is_scaled(ValueId i) const {
    const auto* conv = std::get_if<Conv2dNode>(&graph_.nodes[i].op);
    return conv && conv->scaled;
  }

  // Whether nobody outside reads what lies inside, but for what a chain can keep, and scales come
  // from outside.
  bool joinable(ValueId b, ValueId e) const {
    for (ValueId i = b; i < e; ++i) {
      if (is_scaled(i) && graph_.nodes[i].inputs.back() >= b) return false;
    }
    for (ValueId i = b + 1; i < e; ++i) {
      if (gathers(i)) return false;
    }
    for (ValueId i = b; i + 1 < e; ++i) {
      if (last_use_[i] >= e && !(i + 2 == e && is_row_mean(e - 1))) return false;
    }
    return true;
  }

  bool is_row_mean(ValueId i) const {
    const auto* pool = std::get_if<Pool2dNode>(&graph_.nodes[i].op);
    return pool && pool->options.kernel.height == 1 && pool->options.stride.height == 1 &&
           pool->options.padding == Padding(0);
  }

  // Whether others read value i of a chain of nodes [b, e), which is not its result.
  bool is_kept(ValueId i, ValueId e) const { return i + 1 < e && last_use_[i] >= e; }

  // The values that nodes [b, e) read from outside besides their first.
  std::vector<ValueId> sides(ValueId b, ValueId e) const {
    std::vector<ValueId> values;
    for (ValueId i = b; i < e; ++i) {
      const auto& inputs = graph_.nodes[i].inputs;
      for (std::size_t k = 1; k < inputs.size(); ++k) {
        if (inputs[k] < b) values.push_back(inputs[k]);
      }
    }
    return values;
  }

  Chain chain(ValueId b, ValueId e) const {
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

  double cost(ValueId b, ValueId e) const {
    const Chain joined = chain(b, e);
    return joined.cost();
  }

  Step chained(ValueId b, ValueId e) const {
    Step step;
    step.input = graph_.nodes[b].inputs[0];
    for (ValueId i = b; i < e; ++i) {
      step.nodes.push_back(i);
      step.weight_bytes += static_cast<double>(rows_[i]->weight_bytes());
    }
    step.sides = sides(b, e);
    if (e - b > 1 && is_kept(e - 2, e)) step.kept = e - 2;
    step.whole = slices_[e - 1].whole;
    step.first_channel = slices_[e - 1].channel;
    step.op = std::make_shared<ChainOp>(shapes_[step.input], shapes_[e - 1], Layout::kNHWC, false,
                                        chain(b, e));
    return step;
  }

  Step single(ValueId i) const {
    const Node& node = graph_.nodes[i];
    Step step;
    step.nodes = {i};
    step.input = node.inputs[0];
    if (const auto* linear = std::get_if<LinearNode>(&node.op)) {
      step.op = linear_op(shapes_[step.input], linear->weight->shape(),
                          LayerWeights(linear->weight, linear->bias, store_), linear->activation);
      step.weight_bytes = 4.0 * static_cast<double>(linear->weight->shape().elements());
    } else if (const auto* tokens = std::get_if<ClassTokensNode>(&node.op)) {
      step.op = std::make_shared<ClassTokens>(shapes_[step.input], tokens->token->data(),
                                              tokens->positions->data(), tokens->grid);
    } else if (const auto* attention = std::get_if<AttentionNode>(&node.op)) {
      step.op = std::make_shared<Attention>(shapes_[step.input], attention->heads);
    } else if (std::holds_alternative<ConcatNode>(node.op)) {
      concatenate(i, step);
    } else if (const auto* arrange = std::get_if<ArrangeNode>(&node.op)) {
      std::vector<int> order;
      for (const std::vector<int>& axes : arrange->dims) {
        order.insert(order.end(), axes.begin(), axes.end());
      }
      step.op = std::make_shared<Arrange>(shapes_[step.input], shapes_[i], order);
    } else {
      throw ArgumentError(node.name + ": cannot run on its own here");
    }
    return step;
  }

  // What no node writes into place itself.
  void concatenate(ValueId i, Step& step) const {
    std::vector<Concat::Part> parts;
    step.sides.clear();
    std::int64_t channel = 0;
    for (const ValueId input : graph_.nodes[i].inputs) {
      const std::int64_t count = shapes_[input][1];
      if (slices_[input].whole != i) {
        parts.push_back({channel, count});
        step.sides.push_back(input);
      }
      channel += count;
    }
    step.input = step.sides.front();
    step.sides.erase(step.sides.begin());
    step.op = std::make_shared<Concat>(shapes_[step.input], shapes_[i], std::move(parts));
  }

  const Graph& graph_;
  const std::vector<Shape>& shapes_;
  PackedStore& store_;
  std::vector<std::shared_ptr<RowOp>> rows_;
  std::vector<ValueId> last_use_;
  std::vector<int> uses_;
  std::vector<Slice> slices_;  ///< by value
};

}  // namespace

std::vector<Step> plan_steps(const Graph& graph, const std::vector<Shape>& shapes,
                             PackedStore& store) {
  return Planner(graph, shapes, store).run();
}

}  // namespace sepconv
