#pragma once

#include "ops/row_op.h"
#include "sepconv/tensor.h"

namespace sepconv {

/// A constant map [C,H,W] as rows of pixels.
inline Tensor map_of(const ImageShape& shape, const float* map) {
  Tensor rows({1, shape.channels, shape.height, shape.width}, Layout::kNHWC);
  copy(TensorView(const_cast<float*>(map), rows.shape()), rows.view());
  return rows;
}

}  // namespace sepconv
