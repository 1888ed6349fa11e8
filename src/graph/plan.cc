#include "graph/plan.h"

#include <algorithm>

#include "base/aligned.h"
#include "base/sizes.h"
#include "graph/chains.h"
#include "ops/arrange.h"
#include "ops/attention.h"
#include "ops/chain_op.h"
#include "ops/class_tokens.h"
#include "ops/concat.h"
#include "ops/factories.h"
#include "ops/group_scale.h"
#include "ops/matrix_product.h"
#include "sepconv/error.h"

namespace sepconv {

namespace {

void release(Constant& weight) {
  if (!weight) return;
  weight = std::make_shared<Tensor>(Tensor::shape_only(weight->shape()));
}

// Of a node whose op has packed them.
void release_weights(Node& node) {
  if (auto* conv = std::get_if<Conv2dNode>(&node.op)) release(conv->weight);
  if (auto* conv = std::get_if<ConvTranspose2dNode>(&node.op)) release(conv->weight);
  if (auto* linear = std::get_if<LinearNode>(&node.op)) release(linear->weight);
  if (auto* choose = std::get_if<ChooseNode>(&node.op)) release(choose->map);
  if (auto* constant = std::get_if<ConstantNode>(&node.op)) release(constant->map);
  if (auto* add = std::get_if<AddMapNode>(&node.op)) release(add->map);
  if (auto* multiply = std::get_if<MultiplyMapNode>(&node.op)) release(multiply->map);
  if (auto* attention = std::get_if<AttentionNode>(&node.op)) release(attention->bias);
  if (auto* mixed = std::get_if<MixedDepthwiseNode>(&node.op)) {
    std::for_each(mixed->weights.begin(), mixed->weights.end(), release);
  }
}

class Planner {
 public:
  Planner(Graph& graph, const std::vector<Shape>& shapes, PackedStore& store)
      : graph_(graph),
        shapes_(shapes),
        store_(store),
        rows_(graph.nodes.size()),
        last_use_(graph.nodes.size(), 0),
        uses_(count_uses(graph)),
        slices_(graph.nodes.size()) {
    for (ValueId i = 1; i < graph.nodes.size(); ++i) {
      Node& node = graph.nodes[i];
      rows_[i] = row_op_of(node, shapes[node.inputs[0]], shapes[i], store);
      if (rows_[i]) release_weights(node);
      for (ValueId input : node.inputs) last_use_[input] = i;
    }
    for (const ValueId output : graph.outputs) last_use_[output] = graph.nodes.size();
    for (ValueId i = 1; i < graph.nodes.size(); ++i) plan_slices(i);
    for (ValueId i = 1; i < graph.nodes.size(); ++i) plan_pixels(i);
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
      for (const auto& [b, e, reason] : chains().cut(i, end)) {
        steps.push_back(chained(b, e));
        steps.back().cut = reason;
      }
      i = end;
    }
    space_threads();
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
      if (rows_[part] && alone && rows_[part]->can_write_slice()) {
        rows_[part]->write_slice_of(shapes_[i][1]);
        slices_[part] = {i, channel};
      }
      channel += shapes_[part][1];
    }
  }

  // Moves apart the pixels that node i reads, where these would share a few places of L1: a set of
  // it is chosen by the low twelve bits. Those that are i's alone.
  void plan_pixels(ValueId i) {
    const ValueId from = graph_.nodes[i].inputs[0];
    if (!rows_[i] || !rows_[from] || uses_[from] > 1 || slices_[from].whole != 0) return;
    RowOp &writer = *rows_[from], &reader = *rows_[i];
    const std::int64_t channels = writer.output().channels;
    const bool crowded = to_size(channels) * sizeof(float) % kStagger == 0;
    const bool along = writer.goes_along_rows() || reader.goes_along_rows();
    const bool alone = graph_.nodes[from].inputs.size() == 1;
    if (!crowded || !along || !alone || !writer.can_write_slice() || !reader.can_read_slice()) {
      return;
    }
    constexpr std::int64_t kApart = 2 * kLineFloats;
    writer.write_slice_of(channels + kApart);
    reader.read_slice_of(channels + kApart);
  }

  // A concatenation all of whose parts are there.
  bool is_written(ValueId i) const {
    const auto& inputs = graph_.nodes[i].inputs;
    return std::all_of(inputs.begin(), inputs.end(),
                       [&](ValueId part) { return slices_[part].whole == i; });
  }

  Chains chains() const { return {graph_, rows_, last_use_}; }

  void space_threads() {
    std::size_t most = 0;
    for (const auto& op : chain_ops_) most = std::max(most, op->thread_bytes());
    for (const auto& op : chain_ops_) op->space_threads(most);
  }

  Step chained(ValueId b, ValueId e) {
    Step step;
    step.input = graph_.nodes[b].inputs[0];
    for (ValueId i = b; i < e; ++i) {
      step.nodes.push_back(i);
      step.weight_bytes += static_cast<double>(rows_[i]->weight_bytes());
    }
    step.sides = chains().sides(b, e);
    if (e - b > 1 && chains().is_kept(e - 2, e)) step.kept = e - 2;
    step.whole = slices_[e - 1].whole;
    step.first_channel = slices_[e - 1].channel;
    Chain chain = chains().chain(b, e);
    const RowOp& last = *rows_[e - 1];
    if (step.whole == 0 && last.output_pixel() != last.output().channels) {
      step.output_bytes = to_size(shapes_[step.input][0] * last.output().height) *
                          to_size(last.output_row_floats()) * sizeof(float);
    }
    step.band = chain.band();
    step.ring_bytes = chain.ring_bytes();
    chain_ops_.push_back(std::make_shared<ChainOp>(shapes_[step.input], shapes_[e - 1],
                                                   Layout::kNHWC, false, std::move(chain)));
    step.op = chain_ops_.back();
    return step;
  }

  Step single(ValueId i) {
    Node& node = graph_.nodes[i];
    Step step;
    step.nodes = {i};
    step.input = node.inputs[0];
    if (const auto* linear = std::get_if<LinearNode>(&node.op)) {
      step.op = linear_op(shapes_[step.input], linear->weight->shape(),
                          LayerWeights(linear->weight, linear->bias, store_), linear->activation,
                          ErrorBound::kNetwork);
      step.weight_bytes = 4.0 * static_cast<double>(linear->weight->shape().elements());
      release_weights(node);
    } else if (const auto* tokens = std::get_if<ClassTokensNode>(&node.op)) {
      step.op = std::make_shared<ClassTokens>(shapes_[step.input], tokens->token->data(),
                                              tokens->positions->data(), tokens->grid);
    } else if (const auto* attention = std::get_if<AttentionNode>(&node.op)) {
      step.sides = {node.inputs[1], node.inputs[2]};
      step.op = std::make_shared<Attention>(
          shapes_[node.inputs[0]], shapes_[node.inputs[1]], shapes_[node.inputs[2]],
          attention->heads, attention->window, attention->bias ? attention->bias->data() : nullptr);
      release_weights(node);
    } else if (const auto* group = std::get_if<GroupScaleNode>(&node.op)) {
      step.op = std::make_shared<GroupScale>(shapes_[step.input], group->weight->data(),
                                             group->bias->data(), group->groups, group->epsilon);
    } else if (std::holds_alternative<ConcatNode>(node.op)) {
      concatenate(i, step);
    } else if (const auto* arrange = std::get_if<ArrangeNode>(&node.op)) {
      std::vector<AxisFactor> order;
      for (const std::vector<AxisFactor>& axes : arrange->dims) {
        order.insert(order.end(), axes.begin(), axes.end());
      }
      if (arrange->image) {  // where channels come last
        order.clear();
        for (const std::size_t d : {0U, 2U, 3U, 1U}) {
          order.insert(order.end(), arrange->dims[d].begin(), arrange->dims[d].end());
        }
      }
      step.op = std::make_shared<Arrange>(shapes_[step.input], shapes_[i], order, arrange->first);
    } else if (const auto* product = std::get_if<MatrixProductNode>(&node.op)) {
      step.sides = {node.inputs[1]};
      step.op = std::make_shared<MatrixProduct>(shapes_[step.input], shapes_[i], product->matrices,
                                                product->transposed);
    } else if (const auto* positions = std::get_if<TokensNode>(&node.op)) {
      step.sides.assign(node.inputs.begin() + 1, node.inputs.end());
      std::vector<Shape> from;
      for (const ValueId input : node.inputs) from.push_back(shapes_[input]);
      step.op = std::make_shared<Tokens>(from, shapes_[i], positions->tokens);
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

  Graph& graph_;
  const std::vector<Shape>& shapes_;
  PackedStore& store_;
  std::vector<std::shared_ptr<RowOp>> rows_;
  std::vector<ValueId> last_use_;
  std::vector<int> uses_;
  std::vector<Slice> slices_;  ///< by value
  std::vector<std::shared_ptr<ChainOp>> chain_ops_;
};

}  // namespace

std::vector<Step> plan_steps(Graph& graph, const std::vector<Shape>& shapes, PackedStore& store) {
  return Planner(graph, shapes, store).run();
}

}  // namespace sepconv
