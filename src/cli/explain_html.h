#pragma once

#include <string>
#include <vector>

#include "sepconv/network.h"

namespace sepconv::cli {

/// What `explain --html` shows.
struct ExplainReport {
  struct Roof {
    std::string name;  ///< "L2"
    double gbps;
  };
  std::string title, subtitle;
  double peak_gflops = 0;
  std::vector<Roof> roofs;  ///< read bandwidths, the fastest first
  std::vector<StepInfo> steps;
};

/// One HTML page without scripts or links: a timeline, a roofline (Williams et al., 2009) and a
/// table of the steps.
std::string to_html(const ExplainReport& report);

/// Writes the page, whole or not at all; throws FileError.
void write_page(const std::string& path, const std::string& html);

}  // namespace sepconv::cli
