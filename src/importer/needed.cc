#include "importer/needed.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/nearest.h"

namespace sepconv::importer {

void choose_outputs(io::OnnxFile& file, const std::vector<std::string>& outputs) {
  std::vector<std::string> names;
  for (const io::OnnxNode& node : file.nodes) {
    names.insert(names.end(), node.outputs.begin(), node.outputs.end());
  }
  for (const std::string& name : outputs) {
    const bool known = !name.empty() && std::find(names.begin(), names.end(), name) != names.end();
    if (known) continue;
    const auto near = nearest_names(name, names, 1);
    throw ArgumentError(fmt::format("outputs: got '{}', expected values that nodes of {} make{}",
                                    name, file.path,
                                    near.empty() ? "" : "; the nearest is '" + near[0] + "'"));
  }
  file.outputs = outputs;
}

void keep_needed(io::OnnxFile& file) {
  std::set<std::string> needed(file.outputs.begin(), file.outputs.end());
  std::vector<io::OnnxNode> kept;
  for (auto node = file.nodes.rbegin(); node != file.nodes.rend(); ++node) {
    const bool used = std::any_of(node->outputs.begin(), node->outputs.end(),
                                  [&](const std::string& name) { return needed.contains(name); });
    if (!used) continue;
    needed.insert(node->inputs.begin(), node->inputs.end());
    needed.erase("");  // an input that is not given
    kept.push_back(std::move(*node));
  }
  std::reverse(kept.begin(), kept.end());
  file.nodes = std::move(kept);
}

}  // namespace sepconv::importer
