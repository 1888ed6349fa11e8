// Sums, means and norms of constants: weights that a network standardises whenever it runs (Brock
// et al., "NFNets", 2021).

#include <cmath>

#include "models/onnx_constants.h"

namespace sepconv::models {

using io::OnnxConstant;
using io::OnnxNode;
using io::OnnxTensor;

// ReduceSum and ReduceMean.
OnnxConstant fold_reduce(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const Dims axes = list_of(node, "axes", in, 1);
  const bool none = axes.empty() && integer_of(node, "noop_with_empty_axes", 0) != 0;
  std::vector<bool> reduced(t.dims.size(), axes.empty() && !none);
  for (const std::int64_t a : axes) reduced[axis_of(a, t.dims.size())] = true;
  Dims kept = t.dims, dims;
  for (std::size_t d = 0; d < reduced.size(); ++d) {
    if (reduced[d]) kept[d] = 1;
    if (!reduced[d] || integer_of(node, "keepdims", 1) != 0) dims.push_back(kept[d]);
  }
  const auto step = strides(t.dims), to_step = strides(kept);
  std::vector<double> sums(count_of(kept), 0.0);
  for (std::size_t i = 0; i < t.size(); ++i) {
    std::size_t to = 0;
    for (std::size_t d = 0; d < reduced.size(); ++d) {
      if (!reduced[d]) to += i / step[d] % to_size(t.dims[d]) * to_step[d];
    }
    sums[to] += at(t, i);
  }
  const double each = static_cast<double>(t.size()) / static_cast<double>(sums.size());
  OnnxTensor y = like(dims, t.integer);
  for (std::size_t i = 0; i < y.size(); ++i) {
    put(y, i, node.type == "ReduceMean" ? sums[i] / each : sums[i]);
  }
  return made(std::move(y));
}

OnnxConstant fold_batch_norm(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  if (t.dims.size() < 2 || t.integer) throw Unsupported("of other than [N, C, …]");
  const std::size_t channels = to_size(t.dims[1]), inner = strides(t.dims)[1];
  for (std::size_t i = 1; i < 5; ++i) {
    if (argument(in, i).floats.size() != channels) throw Unsupported("over other channels");
  }
  const auto epsilon = static_cast<double>(number_of(node, "epsilon", 1e-5F));
  OnnxTensor y = like(t.dims, false);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t c = i / inner % channels;
    const double scale = at(*in[1], c) / std::sqrt(at(*in[4], c) + epsilon);
    put(y, i, (at(t, i) - at(*in[3], c)) * scale + at(*in[2], c));
  }
  return made(std::move(y));
}

}  // namespace sepconv::models
