#pragma once

#include <array>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "sepconv/attention.h"
#include "sepconv/ops.h"
#include "sepconv/resampling.h"

namespace sepconv {

using Constant = std::shared_ptr<const Tensor>;

/// The network's input.
struct InputNode {};

/// weight [Cout, C / groups, kh, kw]; bias [Cout] or null. `options.residual` says that a second
/// input is added.
struct Conv2dNode {
  Constant weight, bias;
  Conv2dOptions options;
  std::int64_t groups = 1;
  /// Padding depends on the input size: Padding::same().
  bool same_padding = false;
  /// The last input is a factor for each channel of each image, as of ScaleNode. 1×1 only.
  bool scaled = false;
};

/// The transpose of a convolution from its output to its input ("deconvolution"): every input pixel
/// adds its kernel times its value to the output. weight [Cout, C / groups, kh, kw]; bias [Cout] or
/// null. Output size: (in − 1) · stride + (k − 1) · dilation + 1 − padding + output_padding.
struct ConvTranspose2dNode {
  Constant weight, bias;
  Size2d stride = 1;
  Padding padding = 0;
  Size2d dilation = 1;
  Size2d output_padding = 0;
  std::int64_t groups = 1;
  Activation activation;
};

/// Depthwise with kernels of several sizes, each over its own range of channels (Tan and Le,
/// "MixConv", 2019): weights[i] [Ci, 1, ki, ki]; bias over all channels, or null. Padded by ki / 2,
/// or "same".
struct MixedDepthwiseNode {
  std::vector<Constant> weights;
  Constant bias;
  std::int64_t stride = 1;
  bool same_padding = false;
  Activation activation;
};

/// y = x · s with s [N, C], a factor for each channel of each image: the second input.
struct ScaleNode {};

/// y = (x − mean) / √(variance + epsilon) · weight + bias, by channel (Ioffe and Szegedy, 2015).
struct BatchNormNode {
  Constant weight, bias, mean, variance;
  double epsilon = 1e-5;
  Activation activation = {};
};

/// Over the channels of each pixel, to mean 0 and variance 1, then · weight + bias (Ba et al.,
/// 2016).
struct LayerNormNode {
  Constant weight, bias;
  double epsilon = 1e-6;
  bool centred = true;  ///< or else to mean square 1, whatever the mean: an RMS norm (Zhang and
                        ///< Sennrich, 2019)
};

/// [N,C,H,W] → [N,C], the factors of a global response normalisation (Woo et al., "ConvNeXt V2",
/// 2023): 1 + weight · g / (mean of g + epsilon), g a channel's norm over all positions.
struct ResponseScaleNode {
  Constant weight;
  double epsilon = 1e-6;
};

/// [N,C,H,W] → [N,2C], the factors of a group normalisation (Wu and He, "Group Normalization",
/// 2018), then what is added: x · factor + addend has, over the channels of each group and all
/// positions, mean 0 and variance 1, times weight plus bias. Instance norm where every channel is a
/// group.
struct GroupScaleNode {
  Constant weight, bias;
  std::int64_t groups = 1;
  double epsilon = 1e-5;
};

/// y = activation(x · s + t) with s and t [N, C], one after the other in the second input, [N, 2C].
struct ScaleShiftNode {
  Activation activation = {};
};

/// [N,C,h,w] → [N,C,1+h·w,1]: patches as tokens behind a class token [C], with positions
/// [1+grid², C] added, resampled where the image's grid is another.
struct ClassTokensNode {
  Constant token, positions;
  std::int64_t grid = 0;
  std::int64_t patch = 1;  ///< the network's input must be whole patches of this size
};

/// Multi-head attention over the pixels of images as tokens, softmax(scale · q·kᵀ + bias)·v for
/// each head. Inputs: the values [N,·,Hq,Wq], [N,·,Hk,Wk] and [N,·,Hk,Wk] that hold queries, keys
/// and values, which may be one; result: [N, heads · v.count, Hq, Wq]. With windows, which all of
/// the same size must fit into, the three have one height and width.
struct AttentionNode {
  AttentionHeads heads;
  Constant bias;  ///< [heads, queries, keys] of a window, e.g. relative positions, or null
  AttentionWindow window = {};
};

/// The first token: [N,C,T,1] → [N,C].
struct FirstTokenNode {};

/// The others, as an image again: [N,C,1+h·w,1] → [N,C,h,w], where the network's input is h × w
/// patches of this size.
struct PatchMapNode {
  std::int64_t patch = 1;
};

struct ActivationNode {
  Activation activation;
};

/// Of every element.
struct FunctionNode {
  Function function = Function::kAbs;
};

/// x, or slope · x below 0 with a slope [C] for each channel (He et al., "Delving Deep into
/// Rectifiers", 2015).
struct PReluNode {
  Constant slope;
};

/// activation(a + b) for two inputs of the same shape.
struct AddNode {
  Activation activation = {};
};

/// The map, [C,H,W], for every image of the network's input, which it reads for their number.
struct ConstantNode {
  Constant map;
};

/// x + map, [C,H,W], for every image: positions.
struct AddMapNode {
  Constant map;
};

/// x · map, [C,H,W], for every image.
struct MultiplyMapNode {
  Constant map;
};

/// a · b for two inputs of the same shape.
struct MultiplyNode {};

/// a / b for two inputs of the same shape.
struct DivideNode {};

/// The larger of a and b, element by element, for two inputs of the same shape.
struct MaximumNode {};

/// x · m with m [N,1,H,W], a factor for each pixel: the second input.
struct ScalePixelsNode {};

/// Elements of x where the map, [C,H,W], is not zero, and elsewhere those of the second input.
struct ChooseNode {
  Constant map;
};

/// Rows of x in any order, [N,C,H,W] → [N,C,order,W], or channels, [N,C,H,W] → [N,order,H,W].
struct PickNode {
  std::vector<std::int64_t> order;
  bool channels = false;
};

/// A number of matrices of each image, one below the other: a [N,K,matrices·M,1] times
/// b [N,L,matrices·K,1], or times the transposes of b [N,K,matrices·L,1], is [N,L,matrices·M,1].
/// Rows of a matrix are pixels, columns channels.
struct MatrixProductNode {
  std::int64_t matrices = 1;
  bool transposed = false;  ///< b's are
};

/// Each pixel divided by its Euclidean norm over the channels, or by `least` where that is more.
struct NormalizeNode {
  double least = 1e-12;
};

/// What an image gets around itself.
enum class PadMode {
  kConstant,  ///< a number
  kReflect,   ///< its own pixels, mirrored at the outermost
  kEdge,      ///< its outermost pixels
};

/// More height, width and, of kConstant, channels.
struct PadNode {
  Padding amount;
  std::int64_t channels_before = 0, channels_after = 0;
  PadMode mode = PadMode::kConstant;
  float value = 0;
};

/// `ceil_mode` (maximum only): windows may end beyond the padding as long as they start before it.
struct Pool2dNode {
  Pool kind = Pool::kMax;
  Pool2dOptions options;
  bool ceil_mode = false;
};

/// [N,C,H,W] → [N,1,H,W]: the largest or the mean of each pixel's channels.
struct ChannelPoolNode {
  Pool kind = Pool::kMax;
};

/// Inputs one after the other along the channels.
struct ConcatNode {};

/// Channels [first, first + count).
struct ChannelsNode {
  std::int64_t first = 0, count = 0;
};

/// Channel j of group i of `groups` becomes channel j · groups + i (ShuffleNet, Zhang et al.,
/// 2018).
struct ChannelShuffleNode {
  std::int64_t groups = 1;
};

/// Another height and width, by `scale`, rounded down, or to `size` where that is given.
struct ResizeNode {
  Resampling how;
  double scale_height = 1, scale_width = 1;
  Size2d size = 0;
};

/// The axes of x in another order, some joined or taken apart: dimension i of the result is the
/// product of dims[i], the last fastest; of axes that are not listed it takes index `first`.
struct ArrangeNode {
  std::vector<std::vector<AxisFactor>> dims;
  /// Whether the result is a value as all others, [N, C, H, W]; or else it is row-major: for
  /// outputs.
  bool image = false;
  std::array<std::int64_t, 4> first = {};  ///< by axis of x: where it begins
};

/// Positions of all inputs one after the other, [N, channels, positions, 1]: those of input i are
/// the product of tokens[i], the last fastest, each with the first channels. How detectors put the
/// results of their maps together.
struct TokensNode {
  std::vector<std::vector<AxisFactor>> tokens;
  std::int64_t channels = 0;
};

/// [N,C,H,W] → [N,C].
struct GlobalAveragePoolNode {};

/// weight [out, in]; bias [out] or null.
struct LinearNode {
  Constant weight, bias;
  Activation activation;
};

/// Over the channels of each pixel, or of [N, C]; or its logarithm.
struct SoftmaxNode {
  bool logarithm = false;
};

/// A value of the network is the output of the node with the same index.
using ValueId = std::size_t;

struct Node {
  std::string name;  ///< as its weights are named, e.g. "blocks.2.0.conv_dw"
  std::variant<InputNode, ConstantNode, Conv2dNode, ConvTranspose2dNode, MixedDepthwiseNode,
               BatchNormNode, ActivationNode, FunctionNode, PReluNode, AddNode, AddMapNode,
               MultiplyMapNode, MultiplyNode, DivideNode, MaximumNode, ScaleNode, ScalePixelsNode,
               ChooseNode, PickNode, MatrixProductNode, LayerNormNode, NormalizeNode, PadNode,
               ChannelPoolNode, ResponseScaleNode, GroupScaleNode, ScaleShiftNode, ClassTokensNode,
               AttentionNode, FirstTokenNode, PatchMapNode, ConcatNode, ChannelsNode,
               ChannelShuffleNode, ResizeNode, Pool2dNode, GlobalAveragePoolNode, LinearNode,
               SoftmaxNode, ArrangeNode, TokensNode>
      op;
  std::vector<ValueId> inputs;
};

/// A network as data: nodes in an order in which they can run. Node 0 is the input; the results are
/// those of `outputs`.
struct Graph {
  std::vector<Node> nodes{{"input", InputNode{}, {}}};
  std::vector<ValueId> outputs{0};
  /// Maps by stage, the finest first, as timm's `features_only` chooses them; the passes below
  /// forget them.
  std::vector<ValueId> stages = {};

  /// The value of the last node.
  ValueId last() const { return nodes.size() - 1; }
  /// Appends a node and makes it the only output.
  ValueId add(std::string name, decltype(Node::op) op, std::vector<ValueId> inputs);
};

/// Shape of every value for an input of [N, C, H, W]. Throws ArgumentError, naming the node, where
/// shapes do not fit.
std::vector<Shape> infer_shapes(const Graph& graph, const Shape& input);

/// A classifier's graph up to what its last linear layer reads: an image's pooled features [N, C].
/// Throws ArgumentError if the output is no linear layer.
Graph without_classifier(Graph graph);

/// A classifier's graph up to its logits: without a softmax at the end, if there is one.
Graph without_softmax(Graph graph);

/// A graph up to the maps of its stages, which become its outputs. Throws ArgumentError if it has
/// none.
Graph without_head(Graph graph);

/// Multiply-adds of convolutions, linear layers and attention, for values of these shapes.
double count_macs(const Graph& graph, const std::vector<Shape>& shapes);

/// Multiplies batch norms into the weights and biases of the layer before them or, where that
/// cannot be, of the unpadded one behind.
void fold_batch_norm(Graph& graph);
/// Makes one convolution of those of the same value, its norm and, for a depthwise one, the value
/// itself, where the results are added and one's window lies in the other's: what networks that
/// were trained with branches can do without (Ding et al., "RepVGG", 2021). Not for windows that
/// Winograd's algorithm may come for, whose results would be less exact. Returns whether there were
/// any.
bool merge_sums(Graph& graph);
/// Moves activations into the convolutions and linear layers before them.
void fuse_activations(Graph& graph);
/// Moves additions into the convolution that computes one of the summands.
void fuse_residuals(Graph& graph);
/// Drops nodes that do not lead to an output.
void remove_unused(Graph& graph);
/// All of the above, in the order in which they serve each other.
void optimize(Graph& graph);

/// What was fused into a node, e.g. "relu6 + residual"; empty if nothing.
std::string fused_into(const Node& node);

}  // namespace sepconv
