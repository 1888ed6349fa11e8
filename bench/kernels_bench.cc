// Google Benchmark over the ops that stand on one kernel each. Reports GFLOP/s, the share of the
// core's measured FMA peak, and GB/s of input, output and weights against the measured L2
// bandwidth.
//
//   build/release/bench/sepconv_bench --benchmark_filter=depthwise

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
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

void run(benchmark::State& state, const Op& op, double weights) {
  models::RandomWeights values;
  const Constant data = values.get("x", op.input_shape());
  Tensor x(op.input_shape(), op.layout()), y(op.output_shape(), op.layout());
  copy(data->view(), x.view());
  const std::size_t bytes = (op.workspace_bytes() + 63) / 64 * 64;
  const std::unique_ptr<std::byte, Free> workspace(
      static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
  // Right before, as the core's clock changes.
  const double peak = measure_peak_gflops();
  for (auto _ : state) op.run(x.view(), y.view(), {workspace.get(), bytes});
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  const double moved = 4 * (static_cast<double>(op.input_shape().elements()) +
                            static_cast<double>(op.output_shape().elements()) + weights);
  state.counters["GFLOP/s"] = benchmark::Counter(op.flops() / 1e9, rate);
  state.counters["of_peak"] = benchmark::Counter(op.flops() / 1e9 / peak, rate);
  state.counters["GB/s"] = benchmark::Counter(moved / 1e9, rate);
  state.counters["of_L2"] = benchmark::Counter(moved / 1e9 / l2_bandwidth(), rate);
  state.SetLabel(op.describe());
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

// Arguments: channels in, channels out, size, layout.
void pointwise(benchmark::State& state) {
  const std::int64_t in = state.range(0), out = state.range(1), size = state.range(2);
  models::RandomWeights weights;
  const Constant w = weights.get("w", {out, in});
  const Layout layout = state.range(3) ? Layout::kNCHW : Layout::kNHWC;
  run(state, PointwiseConv2d({1, in, size, size}, w->view(), {}, {}, layout),
      static_cast<double>(in * out));
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
BENCHMARK(dense)->Args({3, 32, 224})->Args({64, 64, 56})->ArgNames({"in", "out", "size"});

}  // namespace
}  // namespace sepconv

int main(int argc, char** argv) {
  benchmark::AddCustomContext("processor", sepconv::cpu_info().name);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
