#include "importer/computed.h"

#include <algorithm>

#include "sepconv/network.h"

namespace sepconv::importer {

Arguments computed(Handler handler, std::int64_t opset, const OnnxNode& node, Values in) {
  const OnnxConstant first = constant(in, 0);
  if (!first || first->integer || first->floats.empty()) throw Unsupported("of a constant");
  const Shape shape{1, static_cast<std::int64_t>(first->size()), 1, 1};
  GraphBuilder net(opset, shape);
  in[0] = reshaped(whole_view(0, shape), first->dims);
  std::vector<Dims> dims;
  std::vector<ValueId> outputs;
  for (const Value& result : apply(handler, net, node, std::move(in))) {
    const View y = net.flat(view(net.settled(result)));
    dims.push_back(y.sizes());
    outputs.push_back(y.id);
  }
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
