#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "sepconv/sepconv.h"

namespace sepconv::cli {

namespace {

// Parameters that training changes: not the batch norms' statistics.
double million_parameters(const std::string& name) {
  double n = 0;
  for (const models::TensorSpec& t : models::tensors(name)) {
    if (!t.name.ends_with("running_mean") && !t.name.ends_with("running_var")) {
      n += static_cast<double>(t.shape.elements());
    }
  }
  return n / 1e6;
}

void print_models() {
  fmt::print("{:<20} {:<18} {:>7} {:>6}  {}\n", "model", "family", "params", "input",
             "weights as in");
  for (const models::ModelInfo& m : models::list()) {
    fmt::print("{:<20} {:<18} {:>6.2f}M {:>6}  {}\n", m.name, m.family, million_parameters(m.name),
               m.preprocessing.size, m.source);
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
