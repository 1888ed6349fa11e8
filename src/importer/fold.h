#pragma once

#include <string>

#include "importer/constants.h"

namespace sepconv::importer {

/// Whether fold() knows the operator.
bool can_fold(const std::string& type);

/// The result of a node whose inputs are all constants. Meant for the arithmetic of shapes: throws
/// Unsupported for a result of more than 2^26 elements.
OnnxConstant fold(const OnnxNode& node, const Arguments& inputs);

// fold_moves.cc: operators that only move elements.
OnnxConstant fold_reshape(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_flatten(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_squeeze(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_unsqueeze(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_gather(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_tile(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_scatter_nd(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_scatter_elements(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_gather_nd(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_concat(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_slice(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_transpose(const OnnxNode& node, const Arguments& in);

// fold_layers.cc: layers of weights, what standardises them, what computes biases.
OnnxConstant fold_reduce(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_cumulative_sum(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_matmul(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_conv(const OnnxNode& node, const Arguments& in);
OnnxConstant fold_batch_norm(const OnnxNode& node, const Arguments& in);

}  // namespace sepconv::importer
