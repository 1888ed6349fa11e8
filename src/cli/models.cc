#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "sepconv/sepconv.h"

namespace sepconv::cli {

namespace {

void print_models() {
  fmt::print("{:<34} {:<18} {:>8} {:>8} {:>6}  {}\n", "model", "family", "params", "GMACs", "input",
             "weights as in");
  for (const models::ModelInfo& m : models::list()) {
    const models::Costs costs = models::costs(m.name);
    fmt::print("{:<34} {:<18} {:>7.2f}M {:>8.2f} {:>6}  {}\n", m.name, m.family,
               costs.parameters / 1e6, costs.macs / 1e9, m.preprocessing.size, m.source);
  }
}

void print_tensors(const std::string& model) {
  for (const models::TensorSpec& t : models::tensors(model)) {
    fmt::print("{} {}\n", t.name, to_string(t.shape));
  }
}

}  // namespace

void add_models(CLI::App& app) {
  auto model = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("models", "List the networks that sepconv knows");
  command->add_option("--tensors", *model,
                      "list the tensors that this model's weight file must hold");
  command->footer("Example:\n  sepconv models --tensors efficientnet_lite0");
  command->callback([model] { model->empty() ? print_models() : print_tensors(*model); });
}

}  // namespace sepconv::cli
