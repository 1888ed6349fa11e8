#pragma once

#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

/// What a node makes of constants, for operators that have no place in the arithmetic of shapes
/// (fold.h): the network that the handler makes of the first of them is run. Throws Unsupported
/// unless that has floats.
Arguments computed(Handler handler, std::int64_t opset, const OnnxNode& node, Values in);

}  // namespace sepconv::importer
