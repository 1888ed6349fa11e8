#include "importer/constants.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sepconv::importer {

constexpr std::int64_t kMostElements = std::int64_t{1} << 26;

std::size_t count_of(const Dims& dims) {
  std::int64_t count = 1;
  for (const std::int64_t d : dims) {
    if (d < 0 || (d > 0 && count > kMostElements / d)) {
      throw Unsupported("a constant of too many elements");
    }
    count *= d;
  }
  return to_size(count);
}

double at(const OnnxTensor& t, std::size_t i) {
  return t.integer ? static_cast<double>(t.integers[i]) : static_cast<double>(t.floats[i]);
}

Dims list_of(const OnnxNode& node, const char* name, const Arguments& in, std::size_t i) {
  return list_of(node, name, i < in.size() ? in[i] : nullptr);
}

OnnxTensor like(const Dims& dims, bool integer) {
  OnnxTensor t{dims, integer, {}, {}};
  const std::size_t count = count_of(dims);
  if (integer) {
    t.integers.resize(count);
  } else {
    t.floats.resize(count);
  }
  return t;
}

void put(OnnxTensor& t, std::size_t i, double value) {
  if (t.integer) {
    t.integers[i] = std::abs(value) < 0x1p62 ? static_cast<std::int64_t>(value) : INT64_MAX;
  } else {
    t.floats[i] = static_cast<float>(value);
  }
}

OnnxConstant made(OnnxTensor t) { return std::make_shared<OnnxTensor>(std::move(t)); }

const OnnxTensor& argument(const Arguments& in, std::size_t i) {
  if (i >= in.size() || !in[i]) throw Unsupported(fmt::format("input {} is missing", i));
  return *in[i];
}

std::vector<std::size_t> strides(const Dims& dims) {
  std::vector<std::size_t> s(dims.size(), 1);
  for (std::size_t d = dims.size(); d-- > 1;) s[d - 1] = s[d] * to_size(dims[d]);
  return s;
}

Dims broadcast(const Dims& a, const Dims& b) {
  Dims y(std::max(a.size(), b.size()), 1);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::int64_t m = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t n = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (m != n && m != 1 && n != 1) throw Unsupported("shapes that do not broadcast");
    y[y.size() - 1 - i] = m == 1 ? n : m;
  }
  return y;
}

OnnxConstant expand(const OnnxTensor& t, const Dims& to) {
  const Dims dims = broadcast(t.dims, to);
  const auto step = strides(t.dims);
  const std::size_t lead = dims.size() - t.dims.size();
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::size_t from = 0;
    for (std::size_t d = 0; d < t.dims.size(); ++d) {
      if (t.dims[d] != 1) from += where[lead + d] * step[d];
    }
    return from;
  });
}

}  // namespace sepconv::importer
