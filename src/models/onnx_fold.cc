#include "models/onnx_fold.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/sizes.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;
using io::OnnxTensor;

std::int64_t integer_of(const OnnxNode& node, const char* name, std::int64_t otherwise) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? otherwise : found->second.integer;
}

float number_of(const OnnxNode& node, const char* name, float otherwise) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? otherwise : found->second.number;
}

std::vector<std::int64_t> list_of(const OnnxNode& node, const char* name,
                                  const std::vector<OnnxConstant>& inputs, std::size_t input) {
  if (input < inputs.size() && inputs[input]) return inputs[input]->integers;
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? std::vector<std::int64_t>() : found->second.integers;
}

std::size_t axis_of(std::int64_t axis, std::size_t rank) {
  const auto r = static_cast<std::int64_t>(rank);
  if (axis < -r || axis >= r) throw Unsupported(fmt::format("axis {} of {}", axis, rank));
  return to_size(axis < 0 ? axis + r : axis);
}

namespace {

using Dims = std::vector<std::int64_t>;
using Arguments = std::vector<OnnxConstant>;

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

// A result whose element i is element source(i's coordinates) of t.
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

using Binary = std::function<double(double, double)>;

OnnxConstant combine(const OnnxTensor& a, const OnnxTensor& b, const Binary& f, bool integer) {
  const Dims dims = broadcast(a.dims, b.dims);
  const OnnxConstant x = expand(a, dims), y = expand(b, dims);
  OnnxTensor result = like(dims, integer);
  for (std::size_t i = 0; i < result.size(); ++i) put(result, i, f(at(*x, i), at(*y, i)));
  return made(std::move(result));
}

OnnxConstant reshaped(const OnnxTensor& t, Dims dims) {
  OnnxTensor y = t;
  if (count_of(dims) != t.size()) throw Unsupported("a reshape to another number of elements");
  y.dims = std::move(dims);
  return made(std::move(y));
}

OnnxConstant fold_reshape(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  Dims dims = argument(in, 1).integers;
  std::int64_t known = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && i < t.dims.size() && !integer_of(node, "allowzero", 0)) dims[i] = t.dims[i];
    if (dims[i] != -1) known *= dims[i];
  }
  for (std::int64_t& d : dims) {
    if (d == -1) d = known > 0 ? static_cast<std::int64_t>(t.size()) / known : 0;
  }
  return reshaped(t, std::move(dims));
}

OnnxConstant fold_squeeze(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const Dims axes = list_of(node, "axes", in, 1);
  std::vector<bool> gone(t.dims.size(), false);
  for (const std::int64_t a : axes) gone[axis_of(a, t.dims.size())] = true;
  Dims dims;
  for (std::size_t d = 0; d < t.dims.size(); ++d) {
    if (axes.empty() ? t.dims[d] != 1 : !gone[d]) dims.push_back(t.dims[d]);
  }
  return reshaped(t, std::move(dims));
}

OnnxConstant fold_unsqueeze(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const Dims axes = list_of(node, "axes", in, 1);
  const std::size_t rank = t.dims.size() + axes.size();
  Dims dims(rank, 0);
  for (const std::int64_t a : axes) dims[axis_of(a, rank)] = 1;
  auto next = t.dims.begin();
  for (std::int64_t& d : dims) {
    if (d == 0 && next != t.dims.end()) d = *next++;
  }
  return reshaped(t, std::move(dims));
}

OnnxConstant fold_gather(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor &t = argument(in, 0), &index = argument(in, 1);
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), t.dims.size());
  Dims dims(t.dims.begin(), t.dims.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.end(), index.dims.begin(), index.dims.end());
  dims.insert(dims.end(), t.dims.begin() + static_cast<std::ptrdiff_t>(axis) + 1, t.dims.end());
  const auto step = strides(t.dims), index_step = strides(index.dims);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::size_t from = 0, which = 0;
    for (std::size_t d = 0; d < axis; ++d) from += where[d] * step[d];
    for (std::size_t d = 0; d < index.dims.size(); ++d) which += where[axis + d] * index_step[d];
    from += axis_of(index.integers.at(which), to_size(t.dims[axis])) * step[axis];
    for (std::size_t d = axis + 1; d < t.dims.size(); ++d) {
      from += where[d - 1 + index.dims.size()] * step[d];
    }
    return from;
  });
}

OnnxConstant fold_gather_nd(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor &t = argument(in, 0), &index = argument(in, 1);
  if (integer_of(node, "batch_dims", 0) != 0 || index.dims.empty() || !index.integer) {
    throw Unsupported("with batch_dims, or by what is no list of places");
  }
  const std::int64_t given = index.dims.back();
  if (given < 1 || given > static_cast<std::int64_t>(t.dims.size())) {
    throw Unsupported("by places of another rank");
  }
  const auto known = static_cast<std::ptrdiff_t>(given);
  Dims dims(index.dims.begin(), index.dims.end() - 1);
  const std::size_t lists = dims.size();
  dims.insert(dims.end(), t.dims.begin() + known, t.dims.end());
  const auto step = strides(t.dims), index_step = strides(index.dims);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::size_t from = 0, list = 0;
    for (std::size_t d = 0; d < lists; ++d) list += where[d] * index_step[d];
    for (std::size_t d = 0; d < to_size(given); ++d) {
      from += axis_of(index.integers.at(list + d), to_size(t.dims[d])) * step[d];
    }
    for (std::size_t d = lists; d < where.size(); ++d) {
      from += where[d] * step[d - lists + to_size(given)];
    }
    return from;
  });
}

OnnxConstant fold_concat(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& first = argument(in, 0);
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), first.dims.size());
  Dims dims = first.dims;
  dims[axis] = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (argument(in, i).dims.size() != dims.size()) throw Unsupported("inputs of unequal rank");
    dims[axis] += argument(in, i).dims[axis];
  }
  OnnxTensor y = like(dims, first.integer);
  const std::size_t outer =
      count_of({dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(axis)});
  std::size_t to = 0;
  for (std::size_t o = 0; o < outer; ++o) {
    for (const OnnxConstant& part : in) {
      const std::size_t run = outer == 0 ? 0 : part->size() / outer;
      if (to + run > y.size()) throw Unsupported("inputs of unequal shapes");
      for (std::size_t i = 0; i < run; ++i) put(y, to++, at(*part, o * run + i));
    }
  }
  return made(std::move(y));
}

OnnxConstant fold_slice(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const Dims starts = list_of(node, "starts", in, 1), ends = list_of(node, "ends", in, 2);
  Dims axes = list_of(node, "axes", in, 3), steps = list_of(node, "steps", in, 4);
  if (axes.empty()) {
    axes.resize(starts.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (steps.empty()) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      steps.size() != starts.size()) {
    throw Unsupported("a slice of unequal lists");
  }
  Dims dims = t.dims, first(t.dims.size(), 0), step(t.dims.size(), 1);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t a = axis_of(axes[i], t.dims.size());
    const std::int64_t size = t.dims[a], by = steps[i];
    if (by == 0) throw Unsupported("a slice by steps of 0");
    const auto position = [&](std::int64_t p, std::int64_t least, std::int64_t most) {
      return std::clamp(p < 0 ? p + size : p, least, most);
    };
    first[a] = by > 0 ? position(starts[i], 0, size) : position(starts[i], 0, size - 1);
    const std::int64_t last = by > 0 ? position(ends[i], 0, size) : position(ends[i], -1, size - 1);
    step[a] = by;
    dims[a] = std::max<std::int64_t>(
        0, by > 0 ? (last - first[a] + by - 1) / by : (first[a] - last - by - 1) / -by);
  }
  const auto stride = strides(t.dims);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::int64_t from = 0;
    for (std::size_t d = 0; d < dims.size(); ++d) {
      from += (first[d] + static_cast<std::int64_t>(where[d]) * step[d]) *
              static_cast<std::int64_t>(stride[d]);
    }
    return to_size(from);
  });
}

OnnxConstant fold_transpose(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  Dims order = list_of(node, "perm", {}, 0);
  if (order.empty()) {
    order.resize(t.dims.size());
    std::iota(order.rbegin(), order.rend(), 0);
  }
  if (order.size() != t.dims.size()) throw Unsupported("an order of other length than the shape");
  const auto step = strides(t.dims);
  Dims dims;
  for (const std::int64_t a : order) dims.push_back(t.dims[axis_of(a, t.dims.size())]);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::size_t from = 0;
    for (std::size_t d = 0; d < where.size(); ++d) from += where[d] * step[to_size(order[d])];
    return from;
  });
}

OnnxConstant fold_cast(const OnnxNode& node, const Arguments& in) {
  constexpr std::int64_t kFloat = 1, kHalf = 10, kDouble = 11, kBfloat = 16, kBool = 9;
  const std::int64_t to = integer_of(node, "to", kFloat);
  const bool integer = to != kFloat && to != kHalf && to != kDouble && to != kBfloat;
  const OnnxTensor& t = argument(in, 0);
  OnnxTensor y = like(t.dims, integer);
  for (std::size_t i = 0; i < y.size(); ++i) {
    put(y, i, to == kBool ? static_cast<double>(at(t, i) != 0) : at(t, i));
  }
  return made(std::move(y));
}

OnnxConstant fold_fill(const OnnxNode& node, const Arguments& in) {
  const auto value = node.attributes.find("value");
  const bool given = value != node.attributes.end() && value->second.tensor;
  OnnxTensor y = like(argument(in, 0).integers, given && value->second.tensor->integer);
  if (given && value->second.tensor->size() != 1) throw Unsupported("a fill value of other size");
  for (std::size_t i = 0; i < y.size(); ++i) put(y, i, given ? at(*value->second.tensor, 0) : 0);
  return made(std::move(y));
}

OnnxConstant fold_where(const OnnxNode&, const Arguments& in) {
  const OnnxTensor &a = argument(in, 1), &b = argument(in, 2);
  const Dims dims = broadcast(broadcast(argument(in, 0).dims, a.dims), b.dims);
  const OnnxConstant c = expand(argument(in, 0), dims), x = expand(a, dims), y = expand(b, dims);
  OnnxTensor result = like(dims, a.integer);
  for (std::size_t i = 0; i < result.size(); ++i) put(result, i, at(at(*c, i) != 0 ? *x : *y, i));
  return made(std::move(result));
}

OnnxConstant fold_clip(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const auto limit = [&](std::size_t i, const char* name, float otherwise) {
    if (i < in.size() && in[i] && in[i]->size() == 1) return at(*in[i], 0);
    return static_cast<double>(number_of(node, name, otherwise));
  };
  const double lo = limit(1, "min", -INFINITY), hi = limit(2, "max", INFINITY);
  OnnxTensor y = like(t.dims, t.integer);
  for (std::size_t i = 0; i < y.size(); ++i) put(y, i, std::min(std::max(at(t, i), lo), hi));
  return made(std::move(y));
}

template <class Function>
OnnxConstant map(const OnnxTensor& t, const Function& f) {
  OnnxTensor y = like(t.dims, t.integer);
  for (std::size_t i = 0; i < y.size(); ++i) put(y, i, f(at(t, i)));
  return made(std::move(y));
}

OnnxConstant fold_binary(const OnnxNode& node, const Arguments& in) {
  static const std::map<std::string, Binary> functions = {
      {"Add", [](double a, double b) { return a + b; }},
      {"Sub", [](double a, double b) { return a - b; }},
      {"Mul", [](double a, double b) { return a * b; }},
      {"Min", [](double a, double b) { return std::min(a, b); }},
      {"Max", [](double a, double b) { return std::max(a, b); }},
      {"Pow", [](double a, double b) { return std::pow(a, b); }},
      {"Mod", [](double a, double b) { return b == 0 ? 0 : a - b * std::floor(a / b); }}};
  static const std::map<std::string, Binary> comparisons = {
      {"Equal", [](double a, double b) { return static_cast<double>(a == b); }},
      {"Less", [](double a, double b) { return static_cast<double>(a < b); }},
      {"Greater", [](double a, double b) { return static_cast<double>(a > b); }},
      {"And", [](double a, double b) { return static_cast<double>(a != 0 && b != 0); }},
      {"Or", [](double a, double b) { return static_cast<double>(a != 0 || b != 0); }}};
  const OnnxTensor &a = argument(in, 0), &b = argument(in, 1);
  const bool integer = a.integer && b.integer;
  if (node.type == "Div") {
    const auto divide = [integer](double x, double y) {
      if (!integer) return x / y;
      if (y == 0) throw Unsupported("a division of whole numbers by 0");
      return std::trunc(x / y);
    };
    return combine(a, b, divide, integer);
  }
  if (const auto f = functions.find(node.type); f != functions.end()) {
    return combine(a, b, f->second, integer);
  }
  return combine(a, b, comparisons.at(node.type), true);
}

using Fold = std::function<OnnxConstant(const OnnxNode&, const Arguments&)>;

template <class Function>
Fold unary(const Function& f) {
  return [f](const OnnxNode&, const Arguments& in) { return map(argument(in, 0), f); };
}

const std::map<std::string, Fold>& folds() {
  static const std::map<std::string, Fold> table = {
      {"Add", fold_binary},
      {"Sub", fold_binary},
      {"Mul", fold_binary},
      {"Div", fold_binary},
      {"Min", fold_binary},
      {"Max", fold_binary},
      {"Pow", fold_binary},
      {"Mod", fold_binary},
      {"Equal", fold_binary},
      {"Less", fold_binary},
      {"Greater", fold_binary},
      {"And", fold_binary},
      {"Or", fold_binary},
      {"Identity", [](const OnnxNode&, const Arguments& in) { return in.at(0); }},
      {"Constant",
       [](const OnnxNode& n, const Arguments&) -> OnnxConstant {
         const auto& a = n.attributes;
         if (a.contains("value") && a.at("value").tensor) return a.at("value").tensor;
         if (a.contains("value_int")) return made({{}, true, {}, {a.at("value_int").integer}});
         if (a.contains("value_float")) return made({{}, false, {a.at("value_float").number}, {}});
         if (a.contains("value_ints")) {
           const auto& list = a.at("value_ints").integers;
           return made({{static_cast<std::int64_t>(list.size())}, true, {}, list});
         }
         if (a.contains("value_floats")) {
           const auto& list = a.at("value_floats").numbers;
           return made({{static_cast<std::int64_t>(list.size())}, false, list, {}});
         }
         throw Unsupported("a constant that is no tensor of numbers");
       }},
      {"Reshape", fold_reshape},
      {"Squeeze", fold_squeeze},
      {"Unsqueeze", fold_unsqueeze},
      {"Gather", fold_gather},
      {"GatherND", fold_gather_nd},
      {"Concat", fold_concat},
      {"Slice", fold_slice},
      {"Transpose", fold_transpose},
      {"Cast", fold_cast},
      {"ConstantOfShape", fold_fill},
      {"Where", fold_where},
      {"Clip", fold_clip},
      {"Expand",
       [](const OnnxNode&, const Arguments& in) {
         return expand(argument(in, 0), argument(in, 1).integers);
       }},
      {"Shape",
       [](const OnnxNode&, const Arguments& in) {
         const Dims& dims = argument(in, 0).dims;
         return made({{static_cast<std::int64_t>(dims.size())}, true, {}, dims});
       }},
      {"Not", unary([](double v) { return static_cast<double>(v == 0); })},
      {"Ceil", unary([](double v) { return std::ceil(v); })},
      {"Floor", unary([](double v) { return std::floor(v); })},
      {"Sqrt", unary([](double v) { return std::sqrt(v); })},
      {"Neg", unary([](double v) { return -v; })}};
  return table;
}

}  // namespace

bool can_fold(const std::string& type) { return folds().contains(type); }

OnnxConstant fold(const OnnxNode& node, const Arguments& inputs) {
  return folds().at(node.type)(node, inputs);
}

}  // namespace sepconv::models
