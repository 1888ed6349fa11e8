#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cli/commands.h"
#include "cli/explain_html.h"
#include "sepconv/sepconv.h"

namespace sepconv::cli {

namespace {

struct Options {
  std::string model, weights, html;
  std::vector<std::string> outputs;
  std::vector<std::int64_t> size;
  std::int64_t batch = 0;  ///< the model's own
  int threads = 1;
};

// Read bandwidths of what lies in half of each cache, and of memory.
std::vector<ExplainReport::Roof> roofs(int threads) {
  const CpuInfo cpu = cpu_info();
  std::vector<ExplainReport::Roof> roofs;
  const auto add = [&](const char* name, std::size_t bytes) {
    roofs.push_back({name, measure_read_gbps(bytes) * threads});
  };
  add("L1", cpu.l1_bytes / 2);
  add("L2", cpu.l2_bytes / 2);
  if (cpu.l3_bytes > 2 * cpu.l2_bytes) add("L3", cpu.l3_bytes / 2);
  add("memory", 4 * std::max(cpu.l3_bytes, cpu.l2_bytes));
  return roofs;
}

void explain(const Options& o) {
  const models::Loaded model = models::load(o.model, o.weights, o.outputs);
  const models::ModelInfo& info = model.info;
  const std::int64_t height = o.size.empty() ? model.input[2] : o.size.front();
  const std::int64_t width = o.size.empty() ? model.input[3] : o.size.back();
  const Shape input{o.batch > 0 ? o.batch : model.input[0], model.input[1], height, width};
  const Network network(model.graph(input), input);
  const ThreadPool pool(o.threads);
  const double peak = measure_peak_gflops() * o.threads;
  const std::string about = fmt::format(
      "({}, weights as in {}), input {}, {} thread(s), {}, FMA peak {:.0f} GFLOP/s", info.family,
      info.source, to_string(network.input_shape()), o.threads, cpu_info().target, peak);
  fmt::print("{} {}\n", info.name, about);
  if (o.weights.empty() && !models::is_onnx(o.model))
    fmt::print("random weights: no --weights given\n");
  double flops = 0, seconds = 0;
  const std::vector<StepInfo> steps = network.explain(30, pool);
  for (const StepInfo& s : steps) {
    flops += s.flops;
    seconds += s.seconds;
    fmt::print("\n{}\n  fused   {}\n  kernel  {}\n", s.name, s.fused, s.kernel);
    if (s.band > 0) {
      fmt::print("  chain   {} row(s) at a time, {:.2f} MB between{}\n", s.band, s.ring_bytes / 1e6,
                 s.cut.empty() ? "" : "; ends as " + s.cut);
    }
    fmt::print(
        "  output  {}   {:.1f} MFLOP, {:.2f} MB, {:.0f} us, {:.1f} GFLOP/s, {:.0f} % of peak\n",
        to_string(s.output), s.flops / 1e6, s.bytes / 1e6, s.seconds * 1e6,
        s.flops / s.seconds / 1e9, s.flops / s.seconds / 1e7 / peak);
  }
  fmt::print(
      "\ntotal: {:.1f} MFLOP, {:.2f} ms, {:.1f} GFLOP/s, {:.0f} % of peak; workspace {:.2f} MB\n",
      flops / 1e6, seconds * 1e3, flops / seconds / 1e9, flops / seconds / 1e7 / peak,
      static_cast<double>(network.workspace_bytes(o.threads)) / 1e6);
  if (o.html.empty()) return;
  const std::string total = fmt::format("{:.2f} ms, {:.0f} % of peak; {}", seconds * 1e3,
                                        flops / seconds / 1e7 / peak, cpu_info().name);
  write_page(o.html, to_html({info.name, about + ", " + total, peak, roofs(o.threads), steps}));
  fmt::print("wrote {}\n", o.html);
}

}  // namespace

void add_explain(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("explain",
                                         "Show a network's steps: what was fused, chains and why "
                                         "they end, kernels, time, share of peak");
  command->add_option("--model", o->model, "a name from `sepconv models`, or an ONNX file")
      ->required();
  command->add_option("--weights", o->weights,
                      "the model's safetensors file; random values without");
  command
      ->add_option(
          "--size", o->size,
          "height and width of the input, one number if equal; the model's own if not given")
      ->expected(1, 2)
      ->check(CLI::Range(1, 8192));
  command->add_option("--batch", o->batch, "images at once; the model's own number if not given")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option(
          "--outputs", o->outputs,
          "values of an ONNX file, separated by commas, to end with instead of its outputs")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--threads", o->threads, "how many threads to use")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--html", o->html,
                      "also write a page with a timeline, a roofline and a table of the steps");
  command->footer("Example:\n  sepconv explain --model mobilenetv2_100 --threads 2");
  command->callback([o] { explain(*o); });
}

}  // namespace sepconv::cli
