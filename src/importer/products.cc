// Products of matrices: by constants, and of two values.

#include <algorithm>
#include <array>

#include "base/sizes.h"
#include "importer/constants.h"
#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// A matrix for each of some dimensions of x, [.., k, out] or, transposed, [.., out, k]: as a
// convolution of groups, whose channels these dimensions are.
View times_each(GraphBuilder& net, const std::string& name, View x, const OnnxTensor& w,
                bool transposed) {
  const std::size_t rank = x.dims.size(), lead = rank - w.dims.size();
  const Dims sizes = x.sizes();
  std::vector<int> places(rank, 2);
  places.back() = 1;
  std::int64_t groups = 1;
  for (std::size_t i = lead; i + 2 < rank; ++i) {
    if (w.dims[i - lead] == 1) continue;
    if (w.dims[i - lead] != sizes[i]) throw Unsupported("of matrices that do not fit");
    places[i] = 1;
    groups *= sizes[i];
  }
  const std::int64_t out = w.dims[w.dims.size() - (transposed ? 2 : 1)], k = sizes.back();
  x = net.placed(x, places, places[0] != 1);
  Conv2dNode n;
  n.groups = groups;
  Floats weights;
  for (std::int64_t g = 0; g < groups; ++g) {
    const auto first = w.floats.begin() + g * k * out;
    const Floats each = matrix({first, first + k * out}, out, k, !transposed);
    weights.insert(weights.end(), each.begin(), each.end());
  }
  n.weight = tensor_of({groups * out, k, 1, 1}, weights);
  View y = x;
  y.id = net.add(name, std::move(n), {x.id});
  std::int64_t step = out;
  for (std::size_t i = rank - 1; i-- > 0;) {
    if (places[i] != 1) continue;
    y.dims[i] = single_axis(1, sizes[i], step);
    step *= sizes[i];
  }
  y.dims.back() = single_axis(1, out);
  return y;
}

// A few rows of x, the last dimension's, to a few others, as talking heads are: wᵀ times all else.
View mixed(GraphBuilder& net, const std::string& name, const View& x, const OnnxTensor& w,
           bool transposed) {
  const OnnxConstant left =
      transposed ? made(OnnxTensor(w)) : sepconv::importer::transposed(w, {1, 0});
  View rows{x.id, {x.dims.back(), {}}};
  rows.scale = x.scale;
  rows.shift = x.shift;
  rows.partial = x.partial;
  rows.first = x.first;
  Dims sizes{left->dims[0]}, order;
  for (std::size_t i = 0; i + 1 < x.dims.size(); ++i) {
    rows.dims[1].insert(rows.dims[1].end(), x.dims[i].begin(), x.dims[i].end());
    sizes.push_back(size_of(x.dims[i]));
    order.push_back(static_cast<std::int64_t>(i) + 1);
  }
  order.push_back(0);
  const View y = matrix_product(net, name, net.constant_view(name + ".weight", *left), rows);
  return sepconv::importer::transposed(reshaped(y, sizes), order);
}

// x · w, [k, out] or, transposed, [out, k].
View times(GraphBuilder& net, const std::string& name, View x, const OnnxConstant& given,
           bool transposed) {
  OnnxTensor matrix_of = *given;
  while (matrix_of.dims.size() > 2 && matrix_of.dims[0] == 1) {
    matrix_of.dims.erase(matrix_of.dims.begin());
  }
  const OnnxTensor* const w = &matrix_of;
  if (w->integer || w->dims.size() < 2 || x.dims.empty() || w->dims.size() > x.dims.size()) {
    throw Unsupported("by other than a constant matrix");
  }
  const std::size_t last = x.dims.size() - 1;
  const std::int64_t depth = w->dims[w->dims.size() - (transposed ? 1 : 2)];
  if (size_of(x.dims[last]) != depth) throw Unsupported("of matrices that do not fit");
  if (w->dims.size() > 2) return times_each(net, name, x, *w, transposed);
  constexpr std::int64_t kFew = 16;
  const bool channels =
      net.shape(x).rank() < 2 || std::any_of(x.dims[last].begin(), x.dims[last].end(),
                                             [](const Axis& a) { return a.axis == 1; });
  if (!channels && std::max(w->dims[0], w->dims[1]) <= kFew)
    return mixed(net, name, x, *w, transposed);
  const std::int64_t k = w->dims[transposed ? 1 : 0], out = w->dims[transposed ? 0 : 1];
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

Values import_gemm(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const View x = net.real(in[0]);
  const OnnxConstant w = constant(in, 1);
  if (!w || w->dims.size() != 2 || integer_of(node, "transA", 0) != 0) {
    throw Unsupported("of other than x and a constant matrix");
  }
  const bool transposed = integer_of(node, "transB", 0) != 0;
  const std::int64_t out = w->dims[transposed ? 0 : 1], k = w->dims[transposed ? 1 : 0];
  Floats weights = matrix(floats(in, 1, "weight"), out, k, !transposed);
  for (float& v : weights) v *= number_of(node, "alpha", 1);
  std::optional<Floats> bias;
  if (constant(in, 2)) {
    Floats b = floats(in, 2, "bias");
    if (b.size() == 1) b.assign(to_size(out), b[0]);
    if (b.size() != to_size(out)) throw Unsupported("with other than one bias for each output");
    for (float& v : b) v *= number_of(node, "beta", 1);
    bias = std::move(b);
  }
  // An image whose pixels were put one behind the other: a convolution over all of it.
  const Shape& s = net.shape(x);
  const bool image = s.rank() == 4 && x.dims.size() == 2 && s[2] * s[3] > 1 &&
                     s.elements() == s[0] * k &&
                     reshaped(whole_view(x.id, s), {s[0], k}).dims == x.dims;
  if (image) {
    Conv2dNode n;
    n.weight = tensor_of({out, net.channels(x), net.shape(x)[2], net.shape(x)[3]}, weights);
    if (bias) n.bias = vector_of(*bias);
    View y = net.add_view(node.name, std::move(n), {x.id});
    y.dims.resize(2);
    return {y};
  }
  const bool vector = x.dims.size() == 2 && is_image(x, net.shape(x));
  const ValueId id = vector ? net.as_vector(x, node.name) : x.id;
  const View of = vector ? whole_view(id, net.shapes[id]) : x;
  const View y = times(net, node.name, of, made({{out, k}, false, weights, {}}), true);
  if (!bias) return {y};
  if (is_axis(y, 1, 1, net.shape(y))) {
    return {net.affine(node.name, y, Floats(to_size(out), 1), *bias)};
  }
  return apply(import_add, net, node, {y, made({{out}, false, *bias, {}})});
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

// The letters' sizes.
Dims sizes_of(const Value& value) {
  const auto* c = std::get_if<OnnxConstant>(&value);
  return c ? (*c)->dims : view(value).sizes();
}

std::int64_t size_of_letter(const Values& in, const Equation& e, char letter) {
  const std::size_t in_a = e.a.find(letter), in_b = e.b.find(letter);
  return in_a != std::string::npos ? sizes_of(in[0])[in_a] : sizes_of(in[1])[in_b];
}

// A value's or a constant's dimensions in the order of these letters: the first ones each for
// itself, the others together.
Value grouped(GraphBuilder& net, const Value& value, const std::string& letters,
              const std::array<std::string, 3>& groups) {
  const Dims order = order_of(groups[0] + groups[1] + groups[2], letters), sizes = sizes_of(value);
  if (order.size() != letters.size() || sizes.size() != letters.size()) {
    throw Unsupported("of values of other dimensions");
  }
  Dims together;
  for (std::size_t i = 0; i < groups[0].size(); ++i) together.push_back(sizes[to_size(order[i])]);
  for (std::size_t i = groups[0].size(), g = 1; g < 3; ++g) {
    together.push_back(1);
    for (std::size_t j = 0; j < groups[g].size(); ++j) {
      together.back() *= sizes[to_size(order[i++])];
    }
  }
  if (const auto* c = std::get_if<OnnxConstant>(&value)) {
    OnnxTensor t = *transposed(**c, order);
    t.dims = together;
    return made(std::move(t));
  }
  return reshaped(transposed(net.real(value), order), together);
}

}  // namespace

// As a product of matrices: letters of both that stay go along, others of both are summed over.
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
  if (summed.empty() || e.result.size() != both.size() + rows.size() + columns.size()) {
    throw Unsupported("of other than matrices");
  }
  Value a = in[0], b = in[1];
  // Attention's expressions are taken as they are.
  const bool one_each = rows.size() == 1 && summed.size() == 1 && columns.size() == 1;
  const auto as_is = [&](const Value& v, const std::string& letters, const std::string& order) {
    return one_each && letters == order && std::holds_alternative<Waiting>(v);
  };
  if (!as_is(a, e.a, both + rows + summed)) a = grouped(net, a, e.a, {both, rows, summed});
  if (!as_is(b, e.b, both + summed + columns)) b = grouped(net, b, e.b, {both, summed, columns});
  const Value product = apply(import_matmul, net, node, {a, b}).front();
  const std::string order = both + rows + columns;
  if (one_each && e.result == order) return {product};
  View y = view(net.settled(product));
  if (!one_each) {
    Dims sizes;
    for (const char letter : order) sizes.push_back(size_of_letter(in, e, letter));
    y = reshaped(y, sizes);
  }
  return {transposed(y, order_of(e.result, order))};
}

}  // namespace sepconv::importer
