#include <fmt/core.h>

#include <cstdio>
#include <exception>
#include <string>

#include "cli/commands.h"

namespace {

constexpr int kBadInput = 2;

// One line on stderr, whatever the message looks like.
int complain(std::string message) {
  for (char& c : message) {
    if (c == '\n') c = ' ';
  }
  fmt::print(stderr, "sepconv: {}\n", message);
  return kBadInput;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Depthwise and pointwise convolution at the hardware's limit.", "sepconv");
  app.require_subcommand(1);
  app.set_version_flag("--version", SEPCONV_VERSION);
  app.footer(
      "Example:\n"
      "  sepconv classify photo.jpg --model efficientnet_lite0 --weights lite0.safetensors");
  sepconv::cli::add_classify(app);
  sepconv::cli::add_explain(app);
  sepconv::cli::add_bench(app);
  sepconv::cli::add_info(app);
  sepconv::cli::add_models(app);
  const std::string first = argc > 1 ? argv[1] : "-";
  const auto known = app.get_subcommands([&](CLI::App* s) { return s->check_name(first); });
  if (first[0] != '-' && known.empty()) {
    return complain(fmt::format("'{}' is no subcommand; see sepconv --help", first));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return complain(std::string(error.what()) + "; see sepconv --help");
  } catch (const std::exception& error) {
    return complain(error.what());
  }
  return 0;
}
