#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>

#include "base/aligned.h"
#include "cli/commands.h"
#include "sepconv/sepconv.h"

namespace sepconv::cli {

namespace {

using Clock = std::chrono::steady_clock;

struct Layer {
  std::int64_t kernel, in, out, size, stride;  // depthwise if out is 0
};

// The layers of the networks that sepconv is for, by cost.
constexpr Layer kLayers[] = {
    {3, 32, 0, 112, 1},    {3, 96, 0, 112, 2},  {3, 144, 0, 56, 1},   {3, 128, 0, 56, 1},
    {3, 256, 0, 28, 1},    {3, 384, 0, 14, 1},  {3, 512, 0, 14, 1},   {3, 576, 0, 14, 1},
    {3, 960, 0, 7, 1},     {5, 672, 0, 14, 1},  {5, 240, 0, 28, 1},   {7, 96, 0, 56, 1},
    {7, 384, 0, 14, 1},    {7, 768, 0, 7, 1},   {1, 32, 64, 112, 1},  {1, 16, 96, 112, 1},
    {1, 96, 24, 56, 1},    {1, 24, 144, 56, 1}, {1, 256, 256, 28, 1}, {1, 512, 512, 14, 1},
    {1, 1024, 1024, 7, 1}, {1, 960, 320, 7, 1}};

struct Options {
  std::string layout = "NHWC";
  int threads = 1;
  double seconds = 0.2;
};

Op make_op(const Layer& l, Layout layout) {
  Conv2dOptions options;
  options.stride = l.stride;
  options.padding = l.kernel / 2;
  options.activation = ActivationKind::kRelu6;
  models::RandomWeights weights;
  const Shape x{1, l.in, l.size, l.size};
  if (l.out == 0) {
    const Constant w = weights.get("depthwise", {l.in, 1, l.kernel, l.kernel});
    return DepthwiseConv2d(x, w->view(), {}, options, layout);
  }
  const Constant w = weights.get("pointwise", {l.out, l.in});
  return PointwiseConv2d(x, w->view(), {}, options, layout);
}

double fastest(const Op& op, double seconds, const ThreadPool& pool) {
  models::RandomWeights values;
  const Constant data = values.get("x", op.input_shape());
  Tensor x(op.input_shape(), op.layout()), y(op.output_shape(), op.layout());
  copy(data->view(), x.view());
  const std::size_t bytes = op.workspace_bytes(pool.threads());
  const auto workspace = make_aligned<std::byte>(bytes);
  double best = std::numeric_limits<double>::infinity();
  const auto stop = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < stop) {
    const auto start = Clock::now();
    op.run(x.view(), y.view(), {workspace.get(), bytes}, pool);
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

void layers(const Options& o) {
  const Layout layout = o.layout == "NHWC" ? Layout::kNHWC : Layout::kNCHW;
  const ThreadPool pool(o.threads);
  const double peak = measure_peak_gflops() * o.threads;
  fmt::print("{}, {} thread(s), {}, FMA peak {:.0f} GFLOP/s\n", cpu_info().target, o.threads,
             o.layout, peak);
  fmt::print("{:<28} {:>9} {:>9} {:>6} {:>7}\n", "layer", "us", "GFLOP/s", "peak", "GB/s");
  for (const Layer& l : kLayers) {
    const Op op = make_op(l, layout);
    const double seconds = fastest(op, o.seconds, pool);
    const std::string name = l.out ? fmt::format("pointwise {}->{} @{}", l.in, l.out, l.size)
                                   : fmt::format("depthwise {}x{} {} @{}{}", l.kernel, l.kernel,
                                                 l.in, l.size, l.stride > 1 ? " s2" : "");
    const double weights = static_cast<double>(l.out ? l.in * l.out : l.in * l.kernel * l.kernel);
    const double bytes = 4 * (static_cast<double>(op.input_shape().elements()) +
                              static_cast<double>(op.output_shape().elements()) + weights);
    fmt::print("{:<28} {:>9.1f} {:>9.1f} {:>5.0f}% {:>7.1f}\n", name, seconds * 1e6,
               op.flops() / seconds / 1e9, op.flops() / seconds / 1e7 / peak,
               bytes / seconds / 1e9);
  }
}

}  // namespace

void add_bench(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("bench", "Time layers");
  command->require_subcommand(1);
  command->footer("Example:\n  sepconv bench layers --layout NCHW");
  CLI::App* sub =
      command->add_subcommand("layers", "Time depthwise and pointwise layers one by one");
  sub->add_option("--layout", o->layout, "order of the tensors in memory")
      ->check(CLI::IsMember({"NHWC", "NCHW"}))
      ->capture_default_str();
  sub->add_option("--threads", o->threads, "how many threads to use")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  sub->add_option("--seconds", o->seconds, "time to spend on a layer")
      ->check(CLI::Range(0.001, 60.0))
      ->capture_default_str();
  sub->footer("Example:\n  sepconv bench layers --layout NCHW");
  sub->callback([o] { layers(*o); });
}

}  // namespace sepconv::cli
