// Operators whose inputs are all constants.

#include <algorithm>
#include <cmath>
#include <functional>

#include "importer/fold.h"

namespace sepconv::importer {

namespace {

using Binary = std::function<double(double, double)>;

OnnxConstant combine(const OnnxTensor& a, const OnnxTensor& b, const Binary& f, bool integer) {
  const Dims dims = broadcast(a.dims, b.dims);
  const OnnxConstant x = expand(a, dims), y = expand(b, dims);
  OnnxTensor result = like(dims, integer);
  for (std::size_t i = 0; i < result.size(); ++i) put(result, i, f(at(*x, i), at(*y, i)));
  return made(std::move(result));
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

OnnxConstant fold_range(const OnnxNode&, const Arguments& in) {
  const OnnxTensor &first = argument(in, 0), &limit = argument(in, 1), &step = argument(in, 2);
  for (const OnnxTensor* t : {&first, &limit, &step}) {
    if (t->size() != 1) throw Unsupported("of other than three numbers");
  }
  const double begin = at(first, 0), by = at(step, 0);
  const double count = std::max(0.0, std::ceil((at(limit, 0) - begin) / by));
  if (!(count < 1 << 26)) throw Unsupported("of more than 2^26 numbers");
  OnnxTensor y = like({static_cast<std::int64_t>(count)}, first.integer);
  for (std::size_t i = 0; i < y.size(); ++i) put(y, i, begin + static_cast<double>(i) * by);
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
      {"LessOrEqual", [](double a, double b) { return static_cast<double>(a <= b); }},
      {"GreaterOrEqual", [](double a, double b) { return static_cast<double>(a >= b); }},
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
      {"GreaterOrEqual", fold_binary},
      {"LessOrEqual", fold_binary},
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
      {"ReduceSum", fold_reduce},
      {"ReduceProd", fold_reduce},
      {"ReduceMax", fold_reduce},
      {"ReduceMin", fold_reduce},
      {"Flatten", fold_flatten},
      {"Size",
       [](const OnnxNode&, const Arguments& in) {
         return made({{}, true, {}, {static_cast<std::int64_t>(argument(in, 0).size())}});
       }},
      {"ReduceMean", fold_reduce},
      {"BatchNormalization", fold_batch_norm},
      {"Conv", fold_conv},
      {"CumSum", fold_cumulative_sum},
      {"Range", fold_range},
      {"ScatterElements", fold_scatter_elements},
      {"ScatterND", fold_scatter_nd},
      {"Tile", fold_tile},
      {"MatMul", fold_matmul},
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
      {"IsNaN",
       [](const OnnxNode&, const Arguments& in) {
         const OnnxTensor& t = argument(in, 0);
         OnnxTensor y = like(t.dims, true);
         for (std::size_t i = 0; i < y.size(); ++i) y.integers[i] = std::isnan(at(t, i));
         return made(std::move(y));
       }},
      {"Not", unary([](double v) { return static_cast<double>(v == 0); })},
      {"Ceil", unary([](double v) { return std::ceil(v); })},
      {"Floor", unary([](double v) { return std::floor(v); })},
      {"Sqrt", unary([](double v) { return std::sqrt(v); })},
      {"Reciprocal", unary([](double v) { return 1 / v; })},
      {"Relu", unary([](double v) { return v > 0 ? v : 0; })},
      {"Sigmoid", unary([](double v) { return 1 / (1 + std::exp(-v)); })},
      {"Abs", unary([](double v) { return std::abs(v); })},
      {"Sign",
       unary([](double v) { return static_cast<double>(v > 0) - static_cast<double>(v < 0); })},
      {"Log", unary([](double v) { return std::log(v); })},
      {"Exp", unary([](double v) { return std::exp(v); })},
      {"Sin", unary([](double v) { return std::sin(v); })},
      {"Cos", unary([](double v) { return std::cos(v); })},
      {"Neg", unary([](double v) { return -v; })}};
  return table;
}

}  // namespace

bool can_fold(const std::string& type) { return folds().contains(type); }

OnnxConstant fold(const OnnxNode& node, const Arguments& inputs) {
  return folds().at(node.type)(node, inputs);
}

}  // namespace sepconv::importer
