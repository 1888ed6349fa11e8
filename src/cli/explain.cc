#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "sepconv/sepconv.h"

namespace sepconv::cli {

namespace {

struct Options {
  std::string model, weights;
  std::int64_t size = 0;
  int batch = 1;
  int threads = 1;
};

void explain(const Options& o) {
  const models::Loaded model = models::load(o.model, o.weights);
  const models::ModelInfo& info = model.info;
  const std::int64_t size = o.size > 0 ? o.size : info.preprocessing.size;
  const Shape input{o.batch, 3, size, size};
  const Network network(model.graph(input), input);
  const ThreadPool pool(o.threads);
  const double peak = measure_peak_gflops() * o.threads;
  fmt::print("{} ({}, weights as in {}), input {}, {} thread(s), {}, FMA peak {:.0f} GFLOP/s\n",
             info.name, info.family, info.source, to_string(network.input_shape()), o.threads,
             cpu_info().target, peak);
  if (o.weights.empty() && !models::is_onnx(o.model))
    fmt::print("random weights: no --weights given\n");
  double flops = 0, seconds = 0;
  for (const StepInfo& s : network.explain(30, pool)) {
    flops += s.flops;
    seconds += s.seconds;
    fmt::print("\n{}\n  fused   {}\n  kernel  {}\n", s.name, s.fused, s.kernel);
    fmt::print(
        "  output  {}   {:.1f} MFLOP, {:.2f} MB, {:.0f} us, {:.1f} GFLOP/s, {:.0f} % of peak\n",
        to_string(s.output), s.flops / 1e6, s.bytes / 1e6, s.seconds * 1e6,
        s.flops / s.seconds / 1e9, s.flops / s.seconds / 1e7 / peak);
  }
  fmt::print(
      "\ntotal: {:.1f} MFLOP, {:.2f} ms, {:.1f} GFLOP/s, {:.0f} % of peak; workspace {:.2f} MB\n",
      flops / 1e6, seconds * 1e3, flops / seconds / 1e9, flops / seconds / 1e7 / peak,
      static_cast<double>(network.workspace_bytes(o.threads)) / 1e6);
}

}  // namespace

void add_explain(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "explain", "Show a network's steps: what was fused, kernels, time, share of peak");
  command->add_option("--model", o->model, "a name from `sepconv models`, or an ONNX file")
      ->required();
  command->add_option("--weights", o->weights,
                      "the model's safetensors file; random values without");
  command
      ->add_option("--size", o->size, "height and width of the input; the model's own if not given")
      ->check(CLI::Range(1, 8192));
  command->add_option("--batch", o->batch, "images at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--threads", o->threads, "how many threads to use")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->footer("Example:\n  sepconv explain --model mobilenetv2_100 --threads 2");
  command->callback([o] { explain(*o); });
}

}  // namespace sepconv::cli
