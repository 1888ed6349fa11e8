// Expressions that became part of nothing, as values of their own.

#include <exception>
#include <optional>
#include <set>

#include "base/sizes.h"
#include "importer/handlers.h"
#include "sepconv/error.h"

namespace sepconv::importer {

namespace {

class Settled {
 public:
  explicit Settled(GraphBuilder& builder) : net_(builder) {}

  std::optional<View> operator()(const SomeChannels& e) const {
    View x = net_.add_same("channels", ChannelsNode{e.first, e.count}, e.of);
    x.dims[1] = single_axis(1, e.count);
    return x;
  }
  std::optional<View> operator()(const ConvolvedChannels& e) const {
    const View x = *(*this)(e.channels);
    return view(import_conv(net_, *e.node, {x, e.weight, e.bias}).front());
  }
  std::optional<View> operator()(const ChannelMean& e) const { return mean_of(net_, e); }
  std::optional<View> operator()(const Centred& e) const {
    return result(import_sub, {e.of, mean_of(net_, {e.of})});
  }
  std::optional<View> operator()(const CentredSquares& e) const {
    return (*this)(Squares{*(*this)(Centred{e.of})});
  }
  std::optional<View> operator()(const Variance& e) const {
    const View squares = *(*this)(CentredSquares{e.of});
    return mean_of(net_, {squares}).plus(e.epsilon);
  }
  std::optional<View> operator()(const Deviation& e) const {
    return function(Function::kSqrt, *(*this)(Variance{e.of, e.epsilon}));
  }
  std::optional<View> operator()(const Squares& e) const {
    const View x = net_.real(e.of);
    return net_.add_same("squares", MultiplyNode{}, x, {x.id});
  }
  std::optional<View> operator()(const MeanSquare& e) const {
    const View squares = *(*this)(Squares{e.of});
    return mean_of(net_, {squares}).plus(e.epsilon);
  }
  std::optional<View> operator()(const RootMeanSquare& e) const {
    const View root = function(Function::kSqrt, *(*this)(MeanSquare{e.of, e.epsilon}));
    return e.inverse ? function(Function::kReciprocal, root) : root;
  }
  std::optional<View> operator()(const Norms& e) const { return norms_of(net_, e, true); }
  std::optional<View> operator()(const MeanOfNorms& e) const {
    return mean_of(net_, {norms_over_positions(net_, e.of)}).plus(e.epsilon);
  }
  std::optional<View> operator()(const NormsByMean& e) const {
    const View mean = *(*this)(MeanOfNorms{e.of, e.epsilon});
    return result(import_div, {norms_over_positions(net_, e.of), mean});
  }
  std::optional<View> operator()(const Response& e) const {
    const View norms = *(*this)(NormsByMean{e.of, e.epsilon});
    const View x = result(import_mul, {e.of, norms});
    const std::size_t n = to_size(net_.channels(e.of));
    return net_.affine("response", x, e.scale.value_or(Floats(n, 1)),
                       e.shift.value_or(Floats(n, 0)));
  }
  std::optional<View> operator()(const Expanded& e) const { return net_.expanded(e.of, e.sizes); }
  std::optional<View> operator()(const AttentionScores& e) const { return scores_of(net_, e); }
  std::optional<View> operator()(const AttentionWeights& e) const { return weights_of(net_, e); }
  std::optional<View> operator()(const ClassTokens& e) const {
    return class_tokens(net_, "tokens", e, nullptr);
  }
  template <class Other>
  std::optional<View> operator()(const Other&) const {
    return std::nullopt;
  }

 private:
  View function(Function f, const View& x) const {
    return net_.add_same("function", FunctionNode{f}, net_.real(x));
  }
  View result(Handler handler, const Values& in) const {
    return view(handler(net_, node_of("", "settled"), in).front());
  }

  GraphBuilder& net_;
};

}  // namespace

Value GraphBuilder::settled(const Value& value) {
  const auto* given = std::get_if<Waiting>(&value);
  if (!given) return value;
  const auto known = settled_.find(*given);
  if (known != settled_.end()) return known->second;
  const std::optional<View> x = std::visit(Settled(*this), **given);
  if (!x) return value;
  return settled_[*given] = *x;
}

namespace {

// What the handler makes of the inputs; nothing, and why, if they are not supported.
std::optional<Values> tried(Handler handler, GraphBuilder& net, const OnnxNode& node,
                            const Values& in, std::exception_ptr& problem) {
  try {
    return handler(net, node, in);
  } catch (const Unsupported&) {
    problem = std::current_exception();
  } catch (const ArgumentError&) {
    problem = std::current_exception();
  }
  return std::nullopt;
}

// Operators all of whose inputs may be values.
bool takes_values(const std::string& type) {
  static const std::set<std::string> types = {
      "Add", "Attention", "Concat",          "Div",       "Einsum", "MatMul", "Max",
      "Min", "Mul",       "ScatterElements", "ScatterND", "Sub",    "Sum",    "Where"};
  return types.contains(type);
}

// Constants of floats as values.
void raise_constants(GraphBuilder& net, const OnnxNode& node, Values& in) {
  for (Value& v : in) {
    const auto* c = std::get_if<OnnxConstant>(&v);
    if (c && *c && !(*c)->integer && !(*c)->floats.empty()) {
      v = net.constant_view(node.name + ".constant", **c);
    }
  }
}

}  // namespace

Values apply(Handler handler, GraphBuilder& net, const OnnxNode& node, Values in) {
  std::exception_ptr problem, another;
  if (auto out = tried(handler, net, node, in, problem)) return *out;
  bool waits = false;
  for (Value& v : in) {
    waits = waits || std::holds_alternative<Waiting>(v);
    v = net.settled(v);
  }
  if (waits) {
    if (auto out = tried(handler, net, node, in, problem)) return *out;
  }
  if (takes_values(node.type)) {
    raise_constants(net, node, in);
    if (auto out = tried(handler, net, node, in, another)) return *out;
  }
  std::rethrow_exception(problem);
}

}  // namespace sepconv::importer
