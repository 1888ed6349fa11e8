#pragma once

#include <stdexcept>
#include <vector>

#include "io/onnx_file.h"

namespace sepconv::models {

/// What of an ONNX graph cannot be expressed; says why, not where.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A node's integer attribute, or `otherwise`.
std::int64_t integer_of(const io::OnnxNode& node, const char* name, std::int64_t otherwise);
float number_of(const io::OnnxNode& node, const char* name, float otherwise);

/// A list that newer operator sets take as an input and older ones as an attribute; empty if
/// neither is there.
std::vector<std::int64_t> list_of(const io::OnnxNode& node, const char* name,
                                  const std::vector<io::OnnxConstant>& inputs, std::size_t input);

/// `axis` counted from the front; throws Unsupported unless −rank ≤ axis < rank.
std::size_t axis_of(std::int64_t axis, std::size_t rank);

/// Whether fold() knows the operator.
bool can_fold(const std::string& type);

/// The result of a node whose inputs are all constants (null where one is not given). Meant for the
/// arithmetic of shapes: throws Unsupported for a result of more than 2^26 elements.
io::OnnxConstant fold(const io::OnnxNode& node, const std::vector<io::OnnxConstant>& inputs);

}  // namespace sepconv::models
