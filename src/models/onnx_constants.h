#pragma once

#include <cstdint>
#include <vector>

#include "base/sizes.h"
#include "models/onnx_fold.h"

namespace sepconv::models {

using Dims = std::vector<std::int64_t>;
using Arguments = std::vector<io::OnnxConstant>;

/// Throws Unsupported for more than 2^26 elements.
std::size_t count_of(const Dims& dims);

/// Element i, and what is put there: of whole numbers or floats.
double at(const io::OnnxTensor& t, std::size_t i);
void put(io::OnnxTensor& t, std::size_t i, double value);

/// A tensor of zeros.
io::OnnxTensor like(const Dims& dims, bool integer);
io::OnnxConstant made(io::OnnxTensor t);
/// Throws Unsupported where a node's input is missing.
const io::OnnxTensor& argument(const Arguments& in, std::size_t i);

std::vector<std::size_t> strides(const Dims& dims);
Dims broadcast(const Dims& a, const Dims& b);
io::OnnxConstant expand(const io::OnnxTensor& t, const Dims& to);

/// A result whose element i is element source(i's coordinates) of t.
template <class Source>
io::OnnxConstant pick(const io::OnnxTensor& t, const Dims& dims, const Source& source) {
  io::OnnxTensor y = like(dims, t.integer);
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

// Operators that only move elements: onnx_fold_moves.cc.
io::OnnxConstant fold_reshape(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_squeeze(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_unsqueeze(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_gather(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_tile(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_scatter_nd(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_gather_nd(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_concat(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_slice(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_transpose(const io::OnnxNode& node, const Arguments& in);

// Layers of weights: what standardises them, what computes biases: onnx_fold_layers.cc.
io::OnnxConstant fold_reduce(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_cumulative_sum(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_matmul(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_conv(const io::OnnxNode& node, const Arguments& in);
io::OnnxConstant fold_batch_norm(const io::OnnxNode& node, const Arguments& in);

}  // namespace sepconv::models
