#pragma once

#include <string>
#include <vector>

namespace sepconv {

/// The `count` candidates with the least edit distance (Levenshtein, 1966) to `name`, nearest
/// first.
std::vector<std::string> nearest_names(const std::string& name,
                                       const std::vector<std::string>& candidates,
                                       std::size_t count);

}  // namespace sepconv
