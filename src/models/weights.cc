#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/check.h"
#include "base/nearest.h"
#include "sepconv/models.h"

namespace sepconv::models {

Constant FileWeights::get(const std::string& name, const Shape& shape) {
  if (!file_.entries().contains(name)) {
    std::vector<std::string> names;
    for (const auto& [known, entry] : file_.entries()) names.push_back(known);
    const auto near = nearest_names(name, names, 1);
    throw FileError(fmt::format("{}: has no tensor '{}' {}{}", file_.path(), name, to_string(shape),
                                near.empty() ? "" : "; the nearest name is '" + near[0] + "'"));
  }
  used_.push_back(name);
  return file_.share(name, shape);
}

void FileWeights::finish(const std::vector<std::string>& unused) const {
  std::vector<std::string> used = used_;
  std::sort(used.begin(), used.end());
  for (const auto& entry : file_.entries()) {
    const std::string& name = entry.first;
    const auto starts = [&](const std::string& prefix) { return name.starts_with(prefix); };
    if (name.ends_with("num_batches_tracked") || std::ranges::any_of(unused, starts)) continue;
    if (std::binary_search(used.begin(), used.end(), name)) continue;
    const auto near = nearest_names(name, used, 1);
    throw FileError(fmt::format("{}: tensor '{}' is not part of this model{}", file_.path(), name,
                                near.empty() ? "" : "; the nearest name is '" + near[0] + "'"));
  }
}

// A linear congruential generator seeded by the name: the same values everywhere.
Constant RandomWeights::get(const std::string& name, const Shape& shape) {
  std::uint64_t state = 1469598103934665603ULL;
  for (char c : name) state = (state ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  const auto uniform = [&state] {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<float>(state >> 40) / 8388608.0F - 1.0F;
  };
  auto tensor = std::make_shared<Tensor>(shape);
  const std::int64_t n = shape.elements();
  const std::int64_t depth = shape.rank() > 1 ? n / std::max<std::int64_t>(shape[0], 1) : 1;
  const float scale = shape.rank() > 1 ? std::sqrt(6.0F / static_cast<float>(depth)) : 0.1F;
  const bool positive =
      name.ends_with("running_var") || (shape.rank() == 1 && name.ends_with("weight"));
  for (std::int64_t i = 0; i < n; ++i) {
    tensor->data()[i] = uniform() * scale + (positive ? 1.0F : 0.0F);
  }
  return tensor;
}

}  // namespace sepconv::models
