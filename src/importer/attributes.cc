#include "importer/attributes.h"

#include <fmt/format.h>

#include "base/sizes.h"

namespace sepconv::importer {

OnnxNode node_of(const char* type, const std::string& name) {
  OnnxNode node;
  node.type = type;
  node.name = name;
  return node;
}

std::int64_t integer_of(const OnnxNode& node, const char* name, std::int64_t otherwise) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? otherwise : found->second.integer;
}

float number_of(const OnnxNode& node, const char* name, float otherwise) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? otherwise : found->second.number;
}

std::string text_of(const OnnxNode& node, const char* name, const char* otherwise) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? otherwise : found->second.text;
}

Dims list_of(const OnnxNode& node, const char* name) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? Dims() : found->second.integers;
}

Dims list_of(const OnnxNode& node, const char* name, const OnnxConstant& input) {
  return input ? input->integers : list_of(node, name);
}

std::size_t axis_of(std::int64_t axis, std::size_t rank) {
  const auto r = static_cast<std::int64_t>(rank);
  if (axis < -r || axis >= r) throw Unsupported(fmt::format("axis {} of {}", axis, rank));
  return to_size(axis < 0 ? axis + r : axis);
}

}  // namespace sepconv::importer
