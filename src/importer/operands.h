#pragma once

#include <utility>

#include "importer/builder.h"

namespace sepconv::importer {

/// With as many dimensions as a constant that is added to it, or that it is multiplied by.
View as_many(View x, const OnnxConstant& c);
/// A value, as large as a constant makes it, and the constant's number for each of its elements.
std::pair<View, Constant> mapped(GraphBuilder& net, View x, const OnnxConstant& constant);
/// Two values of the same shape that lie alike: as an image if either does, as the larger one of
/// two.
std::pair<View, View> alike(GraphBuilder& net, const View& x, const View& y);

}  // namespace sepconv::importer
