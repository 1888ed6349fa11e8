#include "sepconv/network.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <random>

#include "base/aligned.h"
#include "base/check.h"
#include "base/scratch.h"
#include "base/sizes.h"
#include "graph/plan.h"
#include "ops/layout_change.h"

namespace sepconv {

namespace {

using Clock = std::chrono::steady_clock;

std::size_t value_bytes(const Shape& shape) {
  return static_cast<std::size_t>(shape.elements()) * sizeof(float);
}

// What explain() runs on: of zeros, products are left out.
Tensor noise(const Shape& shape) {
  Tensor x(shape, Layout::kNHWC);
  std::minstd_rand random;
  std::uniform_real_distribution<float> number(-1, 1);
  std::generate_n(x.data(), shape.elements(), [&] { return number(random); });
  return x;
}

}  // namespace

struct Network::Plan {
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  Graph graph;
  Shape input;
  std::shared_ptr<PackedStore> packed;
  std::vector<Shape> shapes;
  std::vector<Step> steps;
  ArenaPlan arena;
  std::vector<std::size_t> output_of;  ///< by value: which output it is, or kNone
  std::vector<std::pair<ValueId, std::size_t>> slice_of;  ///< the value that it is part of, floats
  std::size_t most_sides = 0;
  LayoutChange layouts;
  mutable std::atomic<std::uint64_t> last_workspace = 0;  ///< threads, and bytes in the low 48 bits

  Plan(Graph g, const Shape& in, const Plan* like);
  std::size_t workspace_bytes(int threads) const;
  std::size_t scratch_offset() const;
  const float* to_nhwc(const TensorView& x, float* to, const ThreadPool& pool) const;
  template <class Visit>
  void run(const TensorView& x, std::span<const TensorView> ys, std::byte* workspace,
           const ThreadPool& pool, const Visit& after_step) const;
};

Network::Plan::Plan(Graph g, const Shape& in, const Plan* like)
    : graph(std::move(g)),
      input(in),
      packed(like ? like->packed : std::make_shared<PackedStore>()) {
  infer_shapes(graph, input);
  optimize(graph);
  fuse_scales(graph, infer_shapes(graph, input));
  split_global_pools(graph, infer_shapes(graph, input));
  shapes = infer_shapes(graph, input);
  steps = plan_steps(graph, shapes, *packed);
  check(!steps.empty(), "graph: has no nodes besides its input");
  output_of.resize(graph.nodes.size(), kNone);
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    std::size_t& place = output_of[graph.outputs[i]];
    check(graph.outputs[i] != 0 && place == kNone,
          "graph: output {} is the input or another output, expected values of their own", i);
    place = i;
  }
  for (ValueId v = 0; v < graph.nodes.size(); ++v) slice_of.emplace_back(v, 0);
  std::vector<std::size_t> bytes(graph.nodes.size(), 0);
  std::vector<int> first(graph.nodes.size(), 0), last(graph.nodes.size(), 0);
  std::vector<bool> made(graph.nodes.size(), false);
  bytes[0] = value_bytes(input);
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const int now = static_cast<int>(s);
    last[steps[s].input] = now;
    for (const ValueId side : steps[s].sides) last[side] = now;
    most_sides = std::max(most_sides, steps[s].sides.size());
    const ValueId own = steps[s].nodes.back(), whole = steps[s].whole;
    slice_of[own] = whole == 0 ? std::pair(own, std::size_t{0})
                               : std::pair(whole, to_size(steps[s].first_channel));
    for (const ValueId out : {slice_of[own].first, steps[s].kept}) {
      if (out == 0) continue;
      if (!made[out]) first[out] = now;
      made[out] = true;
      last[out] = now;
      if (output_of[out] != kNone) continue;
      const bool apart = out == own && steps[s].output_bytes > 0;
      bytes[out] = apart ? steps[s].output_bytes : value_bytes(shapes[out]);
    }
  }
  arena = plan_arena(bytes, first, last);
}

std::size_t Network::Plan::workspace_bytes(int threads) const {
  // Every run asks, mostly for as many threads as the one before.
  const auto asked = static_cast<std::uint64_t>(threads) << 48;
  const std::uint64_t last = last_workspace.load(std::memory_order_relaxed);
  if (last >> 48 == asked >> 48) return last & ((std::uint64_t{1} << 48) - 1);
  std::size_t most = 0;
  for (const Step& step : steps) most = std::max(most, step.op->workspace_bytes(threads));
  const std::size_t bytes = scratch_offset() + align_up(most);
  last_workspace.store(asked | bytes, std::memory_order_relaxed);
  return bytes;
}

// Where the steps' own workspace begins, behind the arena and the pointers to sides.
std::size_t Network::Plan::scratch_offset() const {
  return stagger(align_up(arena.bytes) + align_up(most_sides * sizeof(float*)), 0);
}

const float* Network::Plan::to_nhwc(const TensorView& x, float* to, const ThreadPool& pool) const {
  if (x.is_dense(Layout::kNHWC)) return x.floats();
  layouts.to_nhwc(input, x.floats(), to, pool);
  return to;
}

template <class Visit>
void Network::Plan::run(const TensorView& x, std::span<const TensorView> ys, std::byte* workspace,
                        const ThreadPool& pool, const Visit& after_step) const {
  const float** sides = Carver(workspace + align_up(arena.bytes)).take<const float*>(most_sides);
  std::byte* scratch = workspace + scratch_offset();
  const auto place = [&](ValueId v) {
    const auto [whole, first] = slice_of[v];
    float* base = output_of[whole] == kNone
                      ? reinterpret_cast<float*>(workspace + arena.offset[whole])
                      : static_cast<float*>(ys[output_of[whole]].data());
    return base + first;
  };
  const float* in = to_nhwc(x, place(0), pool);
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const Step& step = steps[s];
    const float* source = step.input == 0 ? in : place(step.input);
    for (std::size_t i = 0; i < step.sides.size(); ++i) {
      sides[i] = step.sides[i] == 0 ? in : place(step.sides[i]);
    }
    float* kept = step.kept == 0 ? nullptr : place(step.kept);
    step.op->run_keeping(source, std::span(sides, step.sides.size()), place(step.nodes.back()),
                         kept, scratch, pool);
    after_step(s);
  }
}

Network::Network(Graph graph, const Shape& input, const Network* like)
    : plan_(std::make_unique<Plan>(std::move(graph), input, like ? like->plan_.get() : nullptr)) {}
Network::~Network() = default;
Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network&&) noexcept = default;

const Shape& Network::input_shape() const { return plan_->input; }
std::size_t Network::outputs() const { return plan_->graph.outputs.size(); }
const Shape& Network::output_shape(std::size_t output) const {
  return plan_->shapes[plan_->graph.outputs[output]];
}
Layout Network::output_layout(std::size_t output) const {
  const auto* arranged =
      std::get_if<ArrangeNode>(&plan_->graph.nodes[plan_->graph.outputs[output]].op);
  const bool row_major = arranged && !arranged->image;
  return output_shape(output).rank() == 4 && !row_major ? Layout::kNHWC : Layout::kNCHW;
}
std::size_t Network::workspace_bytes(int threads) const { return plan_->workspace_bytes(threads); }

void Network::run(const TensorView& x, std::span<const TensorView> ys,
                  std::span<std::byte> workspace, const ThreadPool& pool) const {
  check(x.shape() == input_shape(), "x: shape is {}, the network was built for {}",
        to_string(x.shape()), to_string(input_shape()));
  check<TypeError>(x.dtype() == DType::kFloat32, "x: dtype is {}, expected float32",
                   to_string(x.dtype()));
  check(x.is_dense(Layout::kNCHW) || x.is_dense(Layout::kNHWC),
        "x: strides are neither those of dense NCHW nor of dense NHWC memory");
  check(ys.size() == outputs(), "ys: got {}, the network has {} outputs", ys.size(), outputs());
  for (std::size_t i = 0; i < ys.size(); ++i) {
    check(ys[i].shape() == output_shape(i) && ys[i].is_dense(output_layout(i)) &&
              ys[i].dtype() == DType::kFloat32,
          "y: expected dense float32 {} of {} for output {}", to_string(output_layout(i)),
          to_string(output_shape(i)), i);
  }
  const std::size_t bytes = workspace_bytes(pool.threads());
  check(workspace.size() >= bytes, "workspace: has {} bytes, expected at least {}",
        workspace.size(), bytes);
  check(is_aligned(workspace.data()), "workspace: address is not a multiple of {}", kAlignment);
  if (input_shape().elements() == 0) return;
  plan_->run(x, ys, workspace.data(), pool, [](std::size_t) {});
}

std::vector<Tensor> Network::run_all(const TensorView& x, const ThreadPool& pool) const {
  std::vector<Tensor> tensors;
  std::vector<TensorView> ys;
  for (std::size_t i = 0; i < outputs(); ++i) {
    tensors.emplace_back(output_shape(i), output_layout(i));
    ys.push_back(tensors.back().view());
  }
  run(x, ys, Scratch(workspace_bytes(pool.threads())).get(), pool);
  return tensors;
}

Tensor Network::operator()(const TensorView& x, const ThreadPool& pool) const {
  check(outputs() == 1, "network: has {} outputs, expected one; run_all() gives all", outputs());
  return std::move(run_all(x, pool).front());
}

std::vector<StepInfo> Network::explain(int runs, const ThreadPool& pool) const {
  std::vector<StepInfo> infos;
  for (const Step& step : plan_->steps) {
    StepInfo info;
    for (ValueId v : step.nodes) {
      const Node& node = plan_->graph.nodes[v];
      info.name += (info.name.empty() ? "" : " > ") + node.name;
      const std::string fused = fused_into(node);
      info.fused += (v == step.nodes.front() ? "" : " > ") + (fused.empty() ? "-" : fused);
    }
    if (step.whole != 0) info.fused += " into " + plan_->graph.nodes[step.whole].name;
    info.kernel = step.op->describe();
    info.output = plan_->shapes[step.nodes.back()];
    info.band = step.band;
    info.ring_bytes = static_cast<double>(step.ring_bytes);
    info.cut = step.cut;
    info.flops = step.op->flops();
    info.bytes = step.weight_bytes + static_cast<double>(value_bytes(plan_->shapes[step.input])) +
                 static_cast<double>(value_bytes(info.output));
    infos.push_back(std::move(info));
  }
  if (runs <= 0) return infos;
  const Tensor x = noise(input_shape());
  std::vector<Tensor> outputs = run_all(x.view(), pool);
  std::vector<TensorView> ys;
  ys.reserve(outputs.size());
  for (const Tensor& y : outputs) ys.push_back(y.view());
  const Scratch workspace(workspace_bytes(pool.threads()));
  std::vector<double> best(infos.size(), std::numeric_limits<double>::infinity());
  for (int i = 0; i < runs; ++i) {
    auto start = Clock::now();
    plan_->run(x.view(), ys, workspace.get().data(), pool, [&](std::size_t s) {
      const auto now = Clock::now();
      best[s] = std::min(best[s], std::chrono::duration<double>(now - start).count());
      start = now;
    });
  }
  for (std::size_t s = 0; s < infos.size(); ++s) infos[s].seconds = best[s];
  return infos;
}

}  // namespace sepconv
