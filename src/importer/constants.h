#pragma once

#include <cstdint>
#include <vector>

#include "base/sizes.h"
#include "importer/attributes.h"

namespace sepconv::importer {

/// A node's inputs, null where one is not given.
using Arguments = std::vector<OnnxConstant>;

/// Throws Unsupported for more than 2^26 elements.
std::size_t count_of(const Dims& dims);

/// Element i, and what is put there: of whole numbers or floats.
double at(const OnnxTensor& t, std::size_t i);
void put(OnnxTensor& t, std::size_t i, double value);

/// A tensor of zeros.
OnnxTensor like(const Dims& dims, bool integer);
OnnxConstant made(OnnxTensor t);
/// Throws Unsupported where a node's input is missing.
const OnnxTensor& argument(const Arguments& in, std::size_t i);

std::vector<std::size_t> strides(const Dims& dims);
Dims broadcast(const Dims& a, const Dims& b);
OnnxConstant expand(const OnnxTensor& t, const Dims& to);

OnnxConstant transposed(const OnnxTensor& t, const Dims& order);

Dims list_of(const OnnxNode& node, const char* name, const Arguments& in, std::size_t i);

/// A result whose element i is element source(i's coordinates) of t.
template <class Source>
OnnxConstant pick(const OnnxTensor& t, const Dims& dims, const Source& source) {
  OnnxTensor y = like(dims, t.integer);
  std::vector<std::size_t> where(dims.size(), 0);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t from = source(where);
    if (from >= t.size()) throw Unsupported("an index out of range");
    if (t.integer) {
      y.integers[i] = t.integers[from];
    } else {
      y.floats[i] = t.floats[from];
    }
    for (std::size_t d = dims.size(); d-- > 0;) {
      if (++where[d] < to_size(dims[d])) break;
      where[d] = 0;
    }
  }
  return made(std::move(y));
}

}  // namespace sepconv::importer
