#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/onnx_file.h"

namespace sepconv::importer {

using io::OnnxConstant;
using io::OnnxNode;
using io::OnnxTensor;

using Dims = std::vector<std::int64_t>;
using Floats = std::vector<float>;

/// What of an ONNX graph cannot be expressed; says why, not where.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A node without attributes, for what a handler leaves to another.
OnnxNode node_of(const char* type, const std::string& name);

/// A node's attribute, or `otherwise`.
std::int64_t integer_of(const OnnxNode& node, const char* name, std::int64_t otherwise);
float number_of(const OnnxNode& node, const char* name, float otherwise);
std::string text_of(const OnnxNode& node, const char* name, const char* otherwise);
/// Empty if it is not given.
Dims list_of(const OnnxNode& node, const char* name);
/// A list that newer operator sets take as an input, null if it is not given, and older ones as an
/// attribute; empty if neither is there.
Dims list_of(const OnnxNode& node, const char* name, const OnnxConstant& input);

/// `axis` counted from the front; throws Unsupported unless −rank ≤ axis < rank.
std::size_t axis_of(std::int64_t axis, std::size_t rank);

}  // namespace sepconv::importer
