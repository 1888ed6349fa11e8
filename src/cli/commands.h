#pragma once

#include <CLI/CLI.hpp>

namespace sepconv::cli {

// One file each; adds the subcommand and what it does.
void add_classify(CLI::App& app);
void add_explain(CLI::App& app);
void add_bench(CLI::App& app);
void add_info(CLI::App& app);
void add_models(CLI::App& app);

}  // namespace sepconv::cli
