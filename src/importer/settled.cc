// Expressions that became part of nothing, as values of their own.

#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

struct Settled {
  GraphBuilder& net;

  std::optional<View> operator()(const SomeChannels& e) const {
    View x = net.add_same("channels", ChannelsNode{e.first, e.count}, e.of);
    x.dims[1] = single_axis(1, e.count);
    return x;
  }
  std::optional<View> operator()(const ConvolvedChannels& e) const {
    const View x = *(*this)(e.channels);
    return view(import_conv(net, *e.node, {x, e.weight, e.bias}).front());
  }
  std::optional<View> operator()(const ChannelMean& e) const { return mean_of(net, e); }
  std::optional<View> operator()(const Norms& e) const { return norms_of(net, e, true); }
  std::optional<View> operator()(const Expanded& e) const { return net.expanded(e.of, e.sizes); }
  std::optional<View> operator()(const AttentionScores& e) const { return scores_of(net, e); }
  std::optional<View> operator()(const AttentionWeights& e) const { return weights_of(net, e); }
  std::optional<View> operator()(const ClassTokens& e) const {
    return class_tokens(net, "tokens", e, nullptr);
  }
  template <class Other>
  std::optional<View> operator()(const Other&) const {
    return std::nullopt;
  }
};

}  // namespace

Value GraphBuilder::settled(const Value& value) {
  const auto* given = std::get_if<Waiting>(&value);
  if (!given) return value;
  const auto known = settled_.find(*given);
  if (known != settled_.end()) return known->second;
  const std::optional<View> x = std::visit(Settled{*this}, **given);
  if (!x) return value;
  return settled_[*given] = *x;
}

}  // namespace sepconv::importer
