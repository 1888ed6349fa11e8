#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "ops/row_op.h"

namespace sepconv {

/// How many of `height` rows, with so many floats each in all images that an op goes over, to take
/// at a time, so that what lies beside a vector of channels is in L2 for the next: half of a common
/// one, the same on every machine, as sums are rounded band by band.
inline std::int64_t rows_in_l2(std::int64_t height, std::int64_t floats) {
  constexpr std::int64_t kFloats = 1 << 17;
  const std::int64_t most = std::max<std::int64_t>(1, kFloats / std::max<std::int64_t>(1, floats));
  const std::int64_t bands = std::max<std::int64_t>(1, (height + most - 1) / most);
  return std::max<std::int64_t>(1, (height + bands - 1) / bands);
}

/// What lies behind some rows of images that come from memory: fetched, in order, while an op works
/// on these rows. As the op reads it, a vector of channels at a time, it would come a line here and
/// a line there.
class RowsAhead {
 public:
  RowsAhead(const float* images, std::int64_t count, const ImageShape& shape)
      : images_(images),
        row_floats_(to_size(shape.row_floats())),
        image_floats_(to_size(shape.height) * row_floats_),
        all_(comes_from_memory(to_size(count) * image_floats_) ? to_size(count) * image_floats_
                                                               : 0) {}

  /// So many lines behind row `row` of an image, of which `share` others have the same number
  /// before; null where there are not so many.
  const float* behind(std::size_t image, std::int64_t row, std::size_t share,
                      std::size_t lines) const {
    const std::size_t from = image * image_floats_ + to_size(row) * row_floats_;
    const std::size_t at = from + share * lines * kLineFloats;
    return at + lines * kLineFloats <= all_ ? images_ + at : nullptr;
  }

 private:
  const float* images_;
  std::size_t row_floats_, image_floats_, all_;
};

}  // namespace sepconv
