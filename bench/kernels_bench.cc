// Google Benchmark over the ops that stand on one kernel each. Reports GFLOP/s, the share of the
// core's measured FMA peak, and GB/s of input, output and weights against the measured L2
// bandwidth.
//
//   build/release/bench/sepconv_bench --benchmark_filter=depthwise

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "sepconv/sepconv.h"

namespace sepconv {
namespace {

double l2_bandwidth() {
  static const double gbps = measure_read_gbps(cpu_info().l2_bytes / 2);
  return gbps;
}

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};

Tensor random(const Shape& shape, Layout layout) {
  models::RandomWeights values;
  Tensor t(shape, layout);
  copy(values.get("x", shape)->view(), t.view());
  return t;
}

class Workspace {
 public:
  explicit Workspace(std::size_t bytes)
      : bytes_((bytes + 63) / 64 * 64),
        memory_(static_cast<std::byte*>(std::aligned_alloc(64, bytes_))) {}
  std::span<std::byte> get() const { return {memory_.get(), bytes_}; }

 private:
  std::size_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

// Times work(), which computes `flops` and moves so many floats.
template <class Work>
void measure(benchmark::State& state, double flops, double floats, const Work& work) {
  // Right before, as the core's clock changes.
  const double peak = measure_peak_gflops();
  for (auto _ : state) work();
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  const double moved = 4 * floats;
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, rate);
  state.counters["of_peak"] = benchmark::Counter(flops / 1e9 / peak, rate);
  state.counters["GB/s"] = benchmark::Counter(moved / 1e9, rate);
  state.counters["of_L2"] = benchmark::Counter(moved / 1e9 / l2_bandwidth(), rate);
}

double floats(const Shape& shape) { return static_cast<double>(shape.elements()); }

void run(benchmark::State& state, const Op& op, double weights) {
  const Tensor x = random(op.input_shape(), op.layout());
  Tensor y(op.output_shape(), op.layout());
  const Workspace workspace(op.workspace_bytes());
  measure(state, op.flops(), floats(op.input_shape()) + floats(op.output_shape()) + weights,
          [&] { op.run(x.view(), y.view(), workspace.get()); });
  state.SetLabel(op.describe());
}

// A network of one node, for kernels that no op of the public API uses, or not alone. It reads its
// input as all of its `inputs`.
template <class NodeOp>
void run_node(benchmark::State& state, const Shape& in, const NodeOp& node, double weights,
              std::size_t inputs = 1) {
  Graph graph;
  graph.add("node", node, std::vector<ValueId>(inputs, 0));
  const Network network(graph, in);
  const StepInfo step = network.explain().front();
  const Tensor x = random(in, Layout::kNHWC);
  Tensor y(network.output_shape(), Layout::kNHWC);
  const Workspace workspace(network.workspace_bytes());
  measure(state, step.flops, floats(in) + floats(y.shape()) + weights,
          [&] { network.run(x.view(), y.view(), workspace.get()); });
  state.SetLabel(step.kernel);
}

// Both gradients of a convolution of one image.
void run_gradients(benchmark::State& state, const Shape& in, const Shape& weight,
                   const Conv2dOptions& options, std::int64_t groups) {
  const Conv2dWeightGradient to_weight(in, weight, options, groups);
  const Shape& out = to_weight.output_shape();
  const Tensor x = random(in, Layout::kNHWC), dy = random(out, Layout::kNHWC);
  const Tensor w = random(weight, Layout::kNCHW);
  Tensor dx(in, Layout::kNHWC), dw(weight);
  const Conv2dGradients op(in, w.view(), options, groups);
  const Workspace workspace(op.workspace_bytes());
  measure(state, 2 * to_weight.flops(), 2 * floats(in) + floats(out) + 2 * floats(weight),
          [&] { op.run(x.view(), dy.view(), dx.view(), dw.view(), workspace.get()); });
  state.SetLabel(to_weight.describe());
}

// Arguments: kernel, channels, size, stride, layout.
void depthwise(benchmark::State& state) {
  const std::int64_t k = state.range(0), c = state.range(1), size = state.range(2);
  models::RandomWeights weights;
  const Constant w = weights.get("w", {c, 1, k, k});
  Conv2dOptions options;
  options.stride = state.range(3);
  options.padding = k / 2;
  const Layout layout = state.range(4) ? Layout::kNCHW : Layout::kNHWC;
  run(state, DepthwiseConv2d({1, c, size, size}, w->view(), {}, options, layout),
      static_cast<double>(c * k * k));
}

// One row: a classifier, or squeeze-excite's. Arguments: channels in and out.
void linear(benchmark::State& state) {
  const std::int64_t in = state.range(0), out = state.range(1);
  models::RandomWeights weights;
  const Constant w = weights.get("w", {out, in});
  run(state, Linear({1, in}, w->view()), static_cast<double>(in * out));
}

// Arguments: channels in, channels out, size, layout.
void pointwise(benchmark::State& state) {
  const std::int64_t in = state.range(0), out = state.range(1), size = state.range(2);
  models::RandomWeights weights;
  const Constant w = weights.get("w", {out, in});
  const Layout layout = state.range(3) ? Layout::kNCHW : Layout::kNHWC;
  run(state, PointwiseConv2d({1, in, size, size}, w->view(), {}, {}, layout),
      static_cast<double>(in * out));
}

// 3×3. Arguments: channels, channels of a group, size, stride.
void grouped(benchmark::State& state) {
  const std::int64_t c = state.range(0), group = state.range(1), size = state.range(2);
  models::RandomWeights weights;
  const Constant w = weights.get("w", {c, group, 3, 3});
  Conv2dOptions options;
  options.stride = state.range(3);
  options.padding = 1;
  run(state, Conv2d({1, c, size, size}, w->view(), {}, options, c / group),
      static_cast<double>(9 * c * group));
}

// Arguments: channels in, channels out, size.
void dense(benchmark::State& state) {
  const std::int64_t in = state.range(0), out = state.range(1), size = state.range(2);
  models::RandomWeights weights;
  const Constant w = weights.get("w", {out, in, 3, 3});
  Conv2dOptions options;
  options.padding = 1;
  run(state, Conv2d({1, in, size, size}, w->view(), {}, options),
      static_cast<double>(9 * in * out));
}

// As networks compute it: with stride 1, and with k/2 zeros around.
void network_conv(benchmark::State& state, std::int64_t k, std::int64_t in, std::int64_t out,
                  std::int64_t size) {
  models::RandomWeights weights;
  Conv2dNode node{weights.get("w", {out, in, k, k}), nullptr, {}};
  node.options.padding = k / 2;
  run_node(state, {1, in, size, size}, node, static_cast<double>(k * k * in * out));
}

// Arguments: kernel, channels in, channels out, size.
void winograd(benchmark::State& state) {
  network_conv(state, state.range(0), state.range(1), state.range(2), state.range(3));
}

// As networks compute it, with k/2 zeros around. Arguments: kernel, channels, size.
void depthwise_winograd(benchmark::State& state) {
  const std::int64_t k = state.range(0), c = state.range(1), size = state.range(2);
  models::RandomWeights weights;
  Conv2dNode node{weights.get("w", {c, 1, k, k}), nullptr, {}};
  node.groups = c;
  node.options.padding = k / 2;
  run_node(state, {1, c, size, size}, node, static_cast<double>(k * k * c));
}

// Arguments: channels in, channels out, size.
void paired(benchmark::State& state) {
  network_conv(state, 1, state.range(0), state.range(1), state.range(2));
}

// Arguments: channels, size.
void layer_norm(benchmark::State& state) {
  const std::int64_t c = state.range(0);
  models::RandomWeights weights;
  run_node(state, {1, c, state.range(1), state.range(1)},
           LayerNormNode{weights.get("w", {c}), weights.get("b", {c})},
           2.0 * static_cast<double>(c));
}

void activation(benchmark::State& state, ActivationKind kind) {
  run_node(state, {1, 96, 28, 28}, ActivationNode{Activation(kind)}, 0);
}

// Arguments: heads of 64, tokens.
void attention(benchmark::State& state) {
  const std::int64_t heads = state.range(0);
  run_node(state, {1, 3 * 64 * heads, state.range(1), 1},
           AttentionNode{AttentionHeads::of_thirds(heads, 64 * heads), nullptr}, 0, 3);
}

// Arguments: kernel, channels, size, stride.
void depthwise_gradients(benchmark::State& state) {
  const std::int64_t k = state.range(0), c = state.range(1), size = state.range(2);
  Conv2dOptions options;
  options.stride = state.range(3);
  options.padding = k / 2;
  run_gradients(state, {1, c, size, size}, {c, 1, k, k}, options, c);
}

// Arguments: channels in, channels out, size.
void pointwise_gradients(benchmark::State& state) {
  const std::int64_t in = state.range(0), out = state.range(1), size = state.range(2);
  run_gradients(state, {1, in, size, size}, {out, in, 1, 1}, {}, 1);
}

// Forward and backward with relu6. Arguments: channels, size.
void batch_norm(benchmark::State& state) {
  const std::int64_t c = state.range(0);
  const Shape shape{1, c, state.range(1), state.range(1)};
  const Tensor x = random(shape, Layout::kNHWC), dy = random(shape, Layout::kNHWC);
  const Tensor weight = random({c}, Layout::kNCHW);
  Tensor y(shape, Layout::kNHWC), dx(shape, Layout::kNHWC);
  Tensor mean({c}), variance({c}), dweight({c}), dbias({c});
  const BatchNorm op(shape, ActivationKind::kRelu6, 1e-5F);
  const Workspace workspace(op.workspace_bytes());
  // By element: 4 for the moments, 4 forward, 8 for the sums, 8 for dx.
  measure(state, 24 * floats(shape), 8 * floats(shape), [&] {
    op.run(x.view(), weight.view(), weight.view(), y.view(), mean.view(), variance.view(),
           workspace.get());
    op.run_backward(x.view(), dy.view(), weight.view(), weight.view(), mean.view(), variance.view(),
                    dx.view(), dweight.view(), dbias.view(), workspace.get());
  });
}

void depthwise_arguments(benchmark::internal::Benchmark* b) {
  for (std::int64_t layout : {0, 1}) {
    for (const auto& a : std::vector<std::vector<std::int64_t>>{{3, 32, 112, 1},
                                                                {3, 96, 112, 2},
                                                                {3, 144, 56, 1},
                                                                {3, 256, 28, 1},
                                                                {3, 512, 14, 1},
                                                                {3, 960, 7, 1},
                                                                {5, 240, 28, 1},
                                                                {5, 672, 14, 1},
                                                                {7, 96, 56, 1},
                                                                {7, 768, 7, 1},
                                                                {9, 300, 7, 1},
                                                                {11, 96, 28, 1},
                                                                {13, 128, 56, 1},
                                                                {21, 128, 56, 1},
                                                                {31, 128, 56, 1}}) {
      b->Args({a[0], a[1], a[2], a[3], layout});
    }
  }
}

BENCHMARK(depthwise)->Apply(depthwise_arguments)->ArgNames({"k", "c", "size", "stride", "nchw"});
BENCHMARK(pointwise)
    ->ArgsProduct({{16, 96, 512}, {24, 96, 512}, {14, 56}, {0, 1}})
    ->ArgNames({"in", "out", "size", "nchw"});
BENCHMARK(linear)->Args({1280, 1000})->Args({48, 1152})->Args({480, 20})->ArgNames({"in", "out"});
BENCHMARK(grouped)
    ->Args({128, 4, 56, 1})
    ->Args({256, 8, 28, 1})
    ->Args({256, 8, 56, 2})
    ->Args({512, 16, 14, 1})
    ->ArgNames({"c", "group", "size", "stride"});
BENCHMARK(dense)->Args({3, 32, 224})->Args({64, 64, 56})->ArgNames({"in", "out", "size"});
BENCHMARK(winograd)
    ->Args({3, 64, 64, 56})
    ->Args({3, 128, 128, 28})
    ->Args({3, 256, 256, 14})
    ->Args({3, 32, 32, 96})
    ->Args({5, 48, 64, 35})
    ->ArgNames({"k", "in", "out", "size"});
BENCHMARK(depthwise_winograd)
    ->Args({3, 144, 56})
    ->Args({3, 384, 14})
    ->Args({7, 96, 56})
    ->Args({13, 128, 56})
    ->Args({31, 128, 56})
    ->ArgNames({"k", "c", "size"});
BENCHMARK(paired)
    ->Args({24, 144, 56})
    ->Args({96, 576, 14})
    ->Args({512, 512, 14})
    ->Args({960, 320, 7})
    ->ArgNames({"in", "out", "size"});
BENCHMARK(layer_norm)->Args({96, 28})->Args({768, 7})->ArgNames({"c", "size"});
BENCHMARK_CAPTURE(activation, silu, ActivationKind::kSilu);
BENCHMARK_CAPTURE(activation, gelu, ActivationKind::kGelu);
BENCHMARK_CAPTURE(activation, hardswish, ActivationKind::kHardSwish);
BENCHMARK(attention)->Args({3, 197})->Args({12, 197})->ArgNames({"heads", "tokens"});
BENCHMARK(depthwise_gradients)
    ->Args({3, 144, 56, 1})
    ->Args({3, 512, 14, 1})
    ->Args({3, 144, 56, 2})
    ->Args({5, 672, 14, 1})
    ->Args({5, 240, 28, 2})
    ->Args({7, 96, 56, 1})
    ->ArgNames({"k", "c", "size", "stride"});
BENCHMARK(pointwise_gradients)
    ->Args({24, 144, 56})
    ->Args({96, 576, 14})
    ->Args({160, 960, 7})
    ->ArgNames({"in", "out", "size"});
BENCHMARK(batch_norm)->Args({24, 56})->Args({144, 56})->Args({576, 14})->ArgNames({"c", "size"});

}  // namespace
}  // namespace sepconv

int main(int argc, char** argv) {
  benchmark::AddCustomContext("processor", sepconv::cpu_info().name);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
