#include "importer/expressions.h"

#include <fmt/format.h>

namespace sepconv::importer {

const char* name_of(const Expression& e) {
  return std::visit([](const auto& kind) { return kind.kName; }, e);
}

const View& view(const Value& value) {
  const auto* v = std::get_if<View>(&value);
  if (const auto* e = std::get_if<Waiting>(&value)) {
    throw Unsupported(fmt::format("of {}, in a form that is not known", name_of(**e)));
  }
  if (!v) throw Unsupported("of a constant");
  return *v;
}

OnnxConstant constant(const Values& in, std::size_t i) {
  const auto* c = i < in.size() ? std::get_if<OnnxConstant>(&in[i]) : nullptr;
  return c ? *c : nullptr;
}

const Floats& floats(const Values& in, std::size_t i, const char* name) {
  const OnnxConstant c = constant(in, i);
  if (!c || c->integer) throw Unsupported(fmt::format("whose {} is no constant", name));
  return c->floats;
}

std::optional<double> scalar(const Value& value) {
  const auto* c = std::get_if<OnnxConstant>(&value);
  if (!c || !*c || (*c)->size() != 1) return std::nullopt;
  return (*c)->integer ? static_cast<double>((*c)->integers[0])
                       : static_cast<double>((*c)->floats[0]);
}

}  // namespace sepconv::importer
