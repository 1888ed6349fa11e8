#pragma once

#include <vector>

#include "ops/op_impl.h"
#include "ops/packed_weights.h"
#include "ops/row_op.h"
#include "sepconv/graph.h"

namespace sepconv {

/// One op of a network with the values that it reads and writes.
struct Step {
  std::shared_ptr<const Op::Impl> op;
  std::vector<ValueId> nodes;  ///< what it computes; the last one's value is its output
  ValueId input = 0;
  std::vector<ValueId> sides;  ///< what it reads besides
  ValueId kept = 0;            ///< a value in between that others read, too; 0 if there is none
  ValueId whole = 0;           ///< the concatenation that its output is a slice of; 0 if of none
  std::int64_t first_channel = 0;  ///< where in it
  std::size_t output_bytes = 0;    ///< of its output where its pixels lie apart; 0 where dense
  double weight_bytes = 0;
  std::int64_t band = 0;       ///< of a chain: output rows at a time; 0 for other ops
  std::size_t ring_bytes = 0;  ///< of a chain: what its intermediates need instead of whole images
  std::string cut;             ///< why it does not go on
};

/// The row op of a node with a first input and an output of these shapes; null where output rows do
/// not come from a few input rows each.
std::shared_ptr<RowOp> row_op_of(const Node& node, const Shape& in, const Shape& out,
                                 PackedStore& store);

/// Ops for every node of an optimised graph, row-local ones joined into chains where a cost model
/// says that less memory moves. Leaves the graph without the weights that ops have packed, but for
/// their shapes.
std::vector<Step> plan_steps(Graph& graph, const std::vector<Shape>& shapes, PackedStore& store);

/// How often each value is read, by nodes and as an output.
std::vector<int> count_uses(const Graph& graph);

/// Whether it filters each channel on its own.
bool is_depthwise(const Conv2dNode& conv);

/// Makes every global pool a mean of each row, which can be taken while the rows are in cache, and
/// a pool of these.
void split_global_pools(Graph& graph, const std::vector<Shape>& shapes);

/// Moves scales into the 1×1 convolution that alone reads their result, where that has fewer
/// weights to multiply than pixels.
void fuse_scales(Graph& graph, const std::vector<Shape>& shapes);

/// Shape of one value, given those before it and the network's input.
Shape infer_shape(const Graph& graph, ValueId value, const std::vector<Shape>& shapes,
                  const Shape& input);

/// The padding of a pool on an image of shape x, with what ceil_mode adds.
Padding pool_padding(const Pool2dNode& node, const Shape& x);

/// The output's shape of a transposed convolution.
Shape transposed_output(const ConvTranspose2dNode& node, const Shape& x);

/// The padding of one of a mixed convolution's kernels on an image of shape x.
Padding mixed_padding(const MixedDepthwiseNode& node, const Shape& x, std::int64_t kernel);

/// Where each value lies in the arena.
struct ArenaPlan {
  std::vector<std::size_t> offset;  ///< by value, in bytes
  std::size_t bytes = 0;
};

/// Places values so that those alive at the same time do not overlap (greedy, largest first).
/// Values of size 0 take no place.
ArenaPlan plan_arena(const std::vector<std::size_t>& bytes, const std::vector<int>& first_use,
                     const std::vector<int>& last_use);

}  // namespace sepconv
