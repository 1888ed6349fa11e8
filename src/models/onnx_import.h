#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "models/onnx_view.h"

namespace sepconv::models {

using Floats = std::vector<float>;
using Dims = std::vector<std::int64_t>;
using Values = std::vector<Value>;

/// The graph that an ONNX file is being turned into, and what its nodes need to add to it. Throws
/// Unsupported where something has no place in it.
class OnnxImport {
 public:
  OnnxImport(const io::OnnxFile& file, const Shape& input);

  ValueId add(const std::string& name, decltype(Node::op) op, std::vector<ValueId> inputs);
  View add_view(const std::string& name, decltype(Node::op) op, std::vector<ValueId> inputs);
  /// A node that leaves the shape as it is; `others` are its inputs after x.
  View add_same(const std::string& name, decltype(Node::op) op, const View& x,
                const std::vector<ValueId>& others = {});

  const Shape& shape(const View& v) const { return shapes[v.id]; }
  std::int64_t channels(const View& v) const { return shape(v)[1]; }

  /// The view with its scalar arithmetic done; the same node for the same arithmetic.
  View real(const Value& value);
  /// Whether value `id` is that of a view, its scalar arithmetic done.
  bool is_real(ValueId id, const View& view) const;
  /// A view in place of an expression that may be a value of its own; the same one always.
  Value settled(const Value& value);
  /// The same, laid out as [N, C, H, W] or [N, C].
  View image(const Value& value);
  // Copies, the same one for the same elements; arithmetic is done, and where an image or matrices
  // lie as they should nothing is copied.
  /// The view's dimensions as images, rows and, those of `columns`, channels: [N, C, rows, 1]; or
  /// images as rows too.
  View matrices(const Value& value, const std::vector<bool>& columns, bool keeps_images = true);
  View matrices(const Value& value, std::size_t columns, bool keeps_images = true);
  /// Every dimension in the axis that `places` names for it, those of one axis in their order.
  View placed(const Value& value, const std::vector<int>& places, bool keeps_images = true);
  /// Four dimensions as [N, C, H, W].
  View four_dimensions(const View& x);
  /// All elements one after the other, so that any shape will do.
  View flat(const View& x);
  /// In the place of another value's elements; a dimension of size 1 for all of the other's.
  View laid_out_as(const Value& value, const View& like);
  /// [N, C] of a value that has, of an image's elements, one for all positions; or nothing.
  std::optional<ValueId> by_channels_of(const View& x, const Value& value);
  /// Dimensions of size 1 repeated.
  View expanded(const Value& value, const std::vector<std::int64_t>& sizes);
  /// Elements [first, first + count) of a dimension.
  View cropped(const Value& value, std::size_t dim, std::int64_t first, std::int64_t count);

  /// x · scale + shift by channel, within the node that makes x where that can be.
  View affine(const std::string& name, const View& x, const Floats& scale, const Floats& shift);
  /// [N, C] of a value whose other axes have size 1.
  ValueId as_vector(const View& v, const std::string& name);
  /// A constant that has one number, or one for each channel of x.
  std::optional<Floats> by_channel(const View& x, const io::OnnxConstant& c) const;
  /// [C, H, W] of a constant that has a number for each element of x's images, or for each of some
  /// of x's dimensions; null if it has not.
  Constant map_for(const View& x, const io::OnnxConstant& c) const;
  /// Padding by a window's attributes, with what a Pad before it asks for.
  Padding padding_of(const io::OnnxNode& node, const View& x, Size2d kernel, Size2d stride,
                     Size2d dilation) const;

  Graph graph;
  std::vector<Shape> shapes;
  Shape input;
  std::int64_t opset;

 private:
  using Axes = std::vector<std::vector<Axis>>;
  struct Copy {
    ValueId of;
    std::array<std::int64_t, 4> first;
    Axes axes;
    ValueId copy;
  };

  View some_channels(const View& x);
  View padded(View x);
  View copied(const View& x, const Axes& axes, Axes dims, std::array<std::int64_t, 4> first = {});

  using Arithmetic = std::tuple<ValueId, double, double>;  ///< of a value, by scale and shift
  std::map<Arithmetic, ValueId> done_;
  std::map<std::tuple<ValueId, std::int64_t, std::int64_t>, ValueId> ranges_;  ///< of channels
  std::map<std::shared_ptr<const Expression>, View> settled_;
  std::map<std::pair<ValueId, std::int64_t>, ValueId> shuffled_;  ///< by groups
  std::vector<Copy> copies_;
};

Constant tensor_of(const Shape& shape, const Floats& values);
/// A depthwise convolution that takes what lies under its window's last tap.
Conv2dNode one_tap(std::int64_t channels, Size2d window);
Constant vector_of(const Floats& values);
/// Weights [out][k], from [k][out] where `turn`.
Floats matrix(const Floats& from, std::int64_t out, std::int64_t k, bool turn);
bool nearly(double a, double b);

const View& view(const Value& value);
/// Null unless input i is a constant.
io::OnnxConstant constant(const Values& in, std::size_t i);
const Floats& floats(const Values& in, std::size_t i, const char* what);
std::optional<double> scalar(const Value& value);
/// Null unless the value is an expression of this kind.
const Expression* expression(const Value& value, const char* what);
Value make(Expression e);
/// A window's attribute of two numbers; 1 where it is not given.
Size2d pair_of(const io::OnnxNode& node, const char* name);

/// What an operator's node becomes: a value for each of its outputs.
using OnnxHandler = Values (*)(OnnxImport&, const io::OnnxNode&, const Values& in);

// onnx_layers.cc
Values import_conv(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_conv_transpose(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_gemm(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_pool(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_global_pool(OnnxImport& net, const io::OnnxNode& node, const Values& in);
// onnx_norms.cc
Values import_batch_norm(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_layer_norm(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_group_norm(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_instance_norm(OnnxImport& net, const io::OnnxNode& node, const Values& in);
// onnx_reductions.cc
Values import_mean(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_reduction(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_norm(OnnxImport& net, const io::OnnxNode& node, const Values& in);
View mean_over_channels(OnnxImport& net, const Expression& e);
View norms_of(OnnxImport& net, const Expression& e, bool keeps_dims);
// onnx_products.cc
Values import_matmul(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_einsum(OnnxImport& net, const io::OnnxNode& node, const Values& in);
/// a·b of the last two dimensions, the others side by side.
View matrix_product(OnnxImport& net, const std::string& name, const Value& a, const Value& b);
// onnx_arithmetic.cc
Values import_add(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_sub(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_mul(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_div(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_maximum(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_pow(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_negative(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_sum(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_sqrt(OnnxImport& net, const io::OnnxNode& node, const Values& in);
// onnx_activations.cc
Values import_activation(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_function(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_prelu(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_greater(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_where(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_clip(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_erf(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_softmax(OnnxImport& net, const io::OnnxNode& node, const Values& in);
// onnx_shapes.cc
Values import_same(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_dropout(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_cast(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_shape(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_reshape(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_expand(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_flatten(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_squeeze(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_unsqueeze(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_transpose(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_depth_to_space(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_space_to_depth(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_pad(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_resize(OnnxImport& net, const io::OnnxNode& node, const Values& in);
// onnx_parts.cc
Values import_split(OnnxImport& net, const io::OnnxNode& node, const Values& in);
Values import_slice(OnnxImport& net, const io::OnnxNode& node, const Values& in);
// onnx_concat.cc
Values import_concat(OnnxImport& net, const io::OnnxNode& node, const Values& in);
// onnx_attention.cc
Values import_gather(OnnxImport& net, const io::OnnxNode& node, const Values& in);
/// q·kᵀ, and that times a number or plus a constant, until it is known what becomes of it.
Value attention_scores(const OnnxImport& net, const View& q, const View& k);
Value scaled_scores(const Expression& scores, double by);
Value biased_scores(const OnnxImport& net, const Expression& scores, const io::OnnxConstant& by);
View attend(OnnxImport& net, const io::OnnxNode& node, const Expression& weights, const View& v);
/// The scores, and their softmax, as values of their own.
View scores_of(OnnxImport& net, const Expression& e);
View weights_of(OnnxImport& net, const Expression& e);
/// Tokens behind a class token, with positions or, where these are null, as they are.
View class_tokens(OnnxImport& net, const std::string& name, const Expression& e,
                  const io::OnnxConstant& positions);

}  // namespace sepconv::models
