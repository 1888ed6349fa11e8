#include "importer/computed.h"

#include <algorithm>

#include "sepconv/network.h"

namespace sepconv::importer {

namespace {

constexpr int kMostBits = 26;
constexpr double kMostMacs = 0x1p33;

}  // namespace

Arguments computed(std::int64_t opset, const OnnxNode& node, const Arguments& in) {
  const Handler handler = handler_of(node.type);
  const OnnxConstant first = in.empty() ? nullptr : in[0];
  if (!handler || !first || first->integer || first->floats.empty()) {
    throw Unsupported("of a constant");
  }
  const Shape shape{1, static_cast<std::int64_t>(first->size()), 1, 1};
  GraphBuilder net(opset, shape, kMostBits);
  Values all(in.begin(), in.end());
  all.resize(std::max(in.size(), kMostInputs), OnnxConstant());
  all[0] = reshaped(whole_view(0, shape), first->dims);
  std::vector<Dims> dims;
  std::vector<ValueId> outputs;
  for (const Value& result : apply(handler, net, node, std::move(all))) {
    const View y = net.flat(view(net.settled(result)));
    dims.push_back(y.sizes());
    outputs.push_back(y.id);
  }
  if (count_macs(net.graph, net.shapes) > kMostMacs) throw Unsupported("that takes too long");
  net.graph.outputs = std::move(outputs);
  const Network network(std::move(net.graph), shape);
  Tensor x(shape);
  std::copy(first->floats.begin(), first->floats.end(), x.data());
  Arguments results;
  for (const Tensor& y : network.run_all(x.view())) {
    OnnxTensor t = like(dims[results.size()], false);
    std::copy_n(y.data(), t.floats.size(), t.floats.begin());
    results.push_back(made(std::move(t)));
  }
  return results;
}

}  // namespace sepconv::importer
