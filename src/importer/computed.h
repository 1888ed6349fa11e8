#pragma once

#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

/// What a node makes of constants, for operators that have no place in the arithmetic of shapes
/// (fold.h): the network that its handler makes of the first of them is run. Throws Unsupported
/// unless that has floats, and for what would take more than about a second or 2^26 elements.
Arguments computed(std::int64_t opset, const OnnxNode& node, const Arguments& in);

}  // namespace sepconv::importer
