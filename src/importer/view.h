#pragma once

#include <cstdint>
#include <vector>

#include "importer/attributes.h"
#include "sepconv/graph.h"

namespace sepconv::importer {

using Axis = AxisFactor;

/// How an ONNX tensor is made of a value of our graph: every dimension is a product of axes, the
/// last fastest; axes of size 1 are left out. Arithmetic with scalars and padding wait here until
/// it is known what they are part of.
struct View {
  ValueId id = 0;
  std::vector<std::vector<Axis>> dims;
  double scale = 1, shift = 0;  ///< the tensor is value · scale + shift
  Padding padding = 0;
  float padded_with = 0;
  bool partial = false;    ///< dims have some of the channels only,
  std::int64_t first = 0;  ///< from this one on

  bool plain() const { return scale == 1 && shift == 0 && padding == Padding(0) && !partial; }
  Dims sizes() const;
  /// The tensor times a number, or with one added.
  View times(double by) const;
  View plus(double by) const;
  /// Whether the tensor is made of the same elements in the same order, before any arithmetic.
  bool same_elements(const View& other) const {
    return id == other.id && dims == other.dims && partial == other.partial && first == other.first;
  }
};

/// All of an axis as a dimension: nothing where it has size 1.
std::vector<Axis> single_axis(int axis, std::int64_t size, std::int64_t step = 1);
/// How many elements a dimension has.
std::int64_t size_of(const std::vector<Axis>& axes);
/// Makes one of factors of an axis where each goes on where the one before has its next element.
void join(std::vector<Axis>& axes);

/// The value itself, axis by axis.
View whole_view(ValueId id, const Shape& shape);

/// The same elements in other dimensions; throws Unsupported unless every dimension is a product of
/// axes or of factors of these.
View reshaped(const View& view, const Dims& sizes);
/// Elements [first, first + count) of a dimension that is a factor of the channels.
View part_of_channels(const View& view, std::size_t dim, std::int64_t first, std::int64_t count);
/// The last two dimensions change places.
void swap_last(View& view);
View transposed(const View& view, const Dims& order);

/// Whether dimension i is this axis (or has size 1, as the axis has then).
bool is_axis(const View& view, std::size_t i, int axis, const Shape& shape);
/// Whether dimension i is all of height and width, row by row.
bool is_pixels(const View& view, std::size_t i, const Shape& shape);
/// Whether the dimensions are the value's own [N, C, H, W] or [N, C] (then followed by ones).
bool is_image(const View& view, const Shape& shape);

/// Whether it is [N, tokens, C] of a value [N, C, tokens, 1].
bool is_tokens(const View& view, const Shape& shape);

/// The groups whose channels take turns, where that is all that differs from the value's own
/// [N, C, H, W]; otherwise 1.
std::int64_t shuffled_groups(const View& view, const Shape& shape);

}  // namespace sepconv::importer
