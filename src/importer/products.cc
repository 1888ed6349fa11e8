// Products of matrices: by constants, and of two values.

#include <algorithm>

#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// x · w, [k][out].
View times(GraphBuilder& net, const std::string& name, View x, const OnnxConstant& w,
           bool transposed) {
  if (w->integer || w->dims.size() != 2 || x.dims.empty()) {
    throw Unsupported("by other than a constant matrix");
  }
  const std::size_t last = x.dims.size() - 1;
  const std::int64_t k = w->dims[transposed ? 1 : 0], out = w->dims[transposed ? 0 : 1];
  if (size_of(x.dims[last]) != k) throw Unsupported("of matrices that do not fit");
  x = net.real(x);
  if (net.shape(x).rank() < 2 || !is_axis(x, last, 1, net.shape(x))) x = net.matrices(x, last);
  const Floats weights = matrix(w->floats, out, k, !transposed);
  View y = x;
  if (net.shape(x).rank() == 2) {
    LinearNode n;
    n.weight = tensor_of({out, k}, weights);
    y.id = net.add(name, std::move(n), {x.id});
  } else {
    Conv2dNode n;
    n.weight = tensor_of({out, k, 1, 1}, weights);
    y.id = net.add(name, std::move(n), {x.id});
  }
  y.dims[last] = single_axis(1, out);
  return y;
}

// Of as many dimensions, those before the last two of equal sizes.
void match(View& a, View& b) {
  const std::size_t rank = std::max(a.dims.size(), b.dims.size());
  for (View* v : {&a, &b}) {
    if (v->dims.size() < 2) throw Unsupported("of a vector");
    v->dims.insert(v->dims.begin(), rank - v->dims.size(), std::vector<Axis>());
  }
  for (std::size_t i = 0; i + 2 < rank; ++i) {
    const std::int64_t of_a = size_of(a.dims[i]), of_b = size_of(b.dims[i]);
    if (of_a == of_b) continue;
    if (of_a != 1 && of_b != 1) throw Unsupported("of matrices that do not fit");
    (of_a == 1 ? a : b).dims[i] = {{0, std::max(of_a, of_b), 0}};
  }
}

}  // namespace

View matrix_product(GraphBuilder& net, const std::string& name, const Value& left,
                    const Value& right) {
  View a = view(left), b = view(right);
  match(a, b);
  const std::size_t rank = a.dims.size();
  // Where b's rows are channels of pixels, its columns, they may stay so.
  const std::vector<Axis>& rows = b.dims[rank - 2];
  const bool transposed = !rows.empty() && rows.back().axis == 1 && rows.back().step == 1;
  const std::size_t columns = transposed ? rank - 2 : rank - 1;
  const View left_matrices = net.matrices(a, rank - 1), right_matrices = net.matrices(b, columns);
  const bool fit = net.shape(left_matrices)[0] == net.shape(right_matrices)[0];
  // Or else what are images of one are something else of the other.
  a = fit ? left_matrices : net.matrices(a, rank - 1, false);
  b = fit ? right_matrices : net.matrices(b, columns, false);
  MatrixProductNode n;
  n.transposed = transposed;
  for (std::size_t i = 0; i + 2 < rank; ++i) n.matrices *= size_of(a.dims[i]);
  n.matrices /= std::max<std::int64_t>(net.shape(a)[0], 1);
  View y = a;
  y.id = net.add(name, n, {a.id, b.id});
  y.dims[rank - 1] = single_axis(1, net.channels(y));
  return y;
}

Values import_matmul(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  if (const auto* weights = expression<AttentionWeights>(in[0]); weights && !weights->transposed) {
    return {attend(net, node, weights->scores, view(in[1]))};
  }
  if (const auto* weights = expression<AttentionWeights>(in[1]); weights && weights->transposed) {
    View v = view(in[0]);
    swap_last(v);
    View y = attend(net, node, weights->scores, v);
    swap_last(y);
    return {y};
  }
  if (const OnnxConstant w = constant(in, 1)) return {times(net, node.name, view(in[0]), w, false)};
  if (const OnnxConstant w = constant(in, 0)) {
    View x = view(in[1]);
    swap_last(x);
    View y = times(net, node.name, x, w, true);
    swap_last(y);
    return {y};
  }
  try {
    return {attention_scores(net, view(in[0]), view(in[1]))};
  } catch (const Unsupported&) {
    return {matrix_product(net, node.name, in[0], in[1])};
  }
}

namespace {

// "ab,bc->ac".
struct Equation {
  std::string a, b, result;

  explicit Equation(std::string text) {
    std::erase(text, ' ');
    const std::size_t comma = text.find(','), arrow = text.find("->");
    if (comma == std::string::npos || arrow == std::string::npos || comma > arrow ||
        text.find(',', comma + 1) != std::string::npos || text.find('.') != std::string::npos) {
      throw Unsupported("of other than two values, as " + text);
    }
    a = text.substr(0, comma);
    b = text.substr(comma + 1, arrow - comma - 1);
    result = text.substr(arrow + 2);
  }
};

// Where letters stand in another list of them.
Dims order_of(const std::string& letters, const std::string& in) {
  Dims order;
  for (const char letter : letters) {
    const std::size_t at = in.find(letter);
    if (at == std::string::npos || in.find(letter, at + 1) != std::string::npos) {
      throw Unsupported("of letters that come twice or not at all");
    }
    order.push_back(static_cast<std::int64_t>(at));
  }
  return order;
}

}  // namespace

// As a product of matrices: letters of both that stay go along, one is summed over.
Values import_einsum(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const Equation e(text_of(node, "equation", ""));
  std::string both, summed, rows, columns;
  for (const char letter : e.a) {
    const bool in_b = e.b.find(letter) != std::string::npos;
    const bool stays = e.result.find(letter) != std::string::npos;
    (in_b ? stays ? both : summed : rows) += letter;
  }
  for (const char letter : e.b) {
    if (e.a.find(letter) == std::string::npos) columns += letter;
  }
  if (summed.size() != 1 || rows.size() != 1 || columns.size() != 1 ||
      e.result.size() != both.size() + 2) {
    throw Unsupported("of other than matrices");
  }
  const auto ordered = [&net](const Value& value, const std::string& to, const std::string& from) {
    const Dims order = order_of(to, from);
    const bool same = std::is_sorted(order.begin(), order.end()) && to.size() == from.size();
    if (same && !std::holds_alternative<View>(value)) return value;  // attention's
    if (to.size() != view(value).dims.size()) throw Unsupported("of values of other dimensions");
    return Value(transposed(net.real(value), order));
  };
  const Value a = ordered(in[0], both + rows + summed, e.a);
  const Value b = ordered(in[1], both + summed + columns, e.b);
  const Value product = import_matmul(net, node, {a, b}).front();
  return {ordered(product, e.result, both + rows + columns)};
}

}  // namespace sepconv::importer
