#pragma once

#include <string>
#include <vector>

#include "io/onnx_file.h"

namespace sepconv::importer {

/// Makes these values the file's outputs. Throws ArgumentError for a name that no node of it makes.
void choose_outputs(io::OnnxFile& file, const std::vector<std::string>& outputs);

/// Leaves nodes out that no output needs.
void keep_needed(io::OnnxFile& file);

}  // namespace sepconv::importer
