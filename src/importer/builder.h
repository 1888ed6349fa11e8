#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "importer/expressions.h"
#include "sepconv/graph.h"

namespace sepconv::importer {

/// The graph that an ONNX file is being turned into, and what its nodes need to add to it. Throws
/// Unsupported where something has no place in it.
class GraphBuilder {
 public:
  /// A graph whose input has this shape; operators are those of the file's operator set. No value
  /// may have more than 2^bits elements: a file may not make a program ask for any memory.
  GraphBuilder(std::int64_t opset, const Shape& input, int bits = 31);

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
  /// A view in place of an expression that can be a value of its own; the same one always.
  Value settled(const Value& value);
  /// real(), laid out as [N, C, H, W] or [N, C].
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
  View expanded(const Value& value, const Dims& sizes);
  /// Elements [first, first + count) of a dimension.
  View cropped(const Value& value, std::size_t dim, std::int64_t first, std::int64_t count);

  /// A constant as a value of every image.
  View constant_view(const std::string& name, const OnnxTensor& constant);

  /// x · scale + shift by channel, within the node that makes x where that can be.
  View affine(const std::string& name, const View& x, const Floats& scale, const Floats& shift);
  /// [N, C] of a value whose other axes have size 1.
  ValueId as_vector(const View& v, const std::string& name);
  /// A constant that has one number, or one for each channel of x.
  std::optional<Floats> by_channel(const View& x, const OnnxConstant& c) const;
  /// [C, H, W] of a constant that has a number for each element of x's images, or for each of some
  /// of x's dimensions; null if it has not.
  Constant map_for(const View& x, const OnnxConstant& c) const;
  /// Padding by a window's attributes, with what a Pad before it asks for.
  Padding padding_of(const OnnxNode& node, const View& x, Size2d kernel, Size2d stride,
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

  int bits_;

  View some_channels(const View& x);
  View padded(View x);
  View copied(const View& x, const Axes& axes, Axes dims, std::array<std::int64_t, 4> first = {});

  using Arithmetic = std::tuple<ValueId, double, double>;  ///< of a value, by scale and shift
  std::map<Arithmetic, ValueId> done_;
  std::map<std::tuple<ValueId, std::int64_t, std::int64_t>, ValueId> ranges_;  ///< of channels
  std::map<Waiting, View> settled_;
  std::map<std::pair<ValueId, std::int64_t>, ValueId> shuffled_;  ///< by groups
  std::vector<Copy> copies_;
};

Constant tensor_of(const Shape& shape, const Floats& values);
Constant vector_of(const Floats& values);
/// A depthwise convolution that takes what lies under its window's last tap.
Conv2dNode one_tap(std::int64_t channels, Size2d window);
/// Weights [out][k], from [k][out] where `turn`.
Floats matrix(const Floats& from, std::int64_t out, std::int64_t k, bool turn);
/// A window's attribute of two numbers; 1 where it is not given.
Size2d pair_of(const OnnxNode& node, const char* name);
bool nearly(double a, double b);

}  // namespace sepconv::importer
