#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "ops/row_op.h"

namespace sepconv::testing {

/// Runs the rows in pieces of `step`, all channels together or share by share.
inline std::vector<float> run_pieces(const RowOp& op, const std::vector<float>& x,
                                     const std::vector<float>* residual, std::int64_t step,
                                     bool by_shares = false) {
  const ImageShape &in = op.input(), &out = op.output();
  std::vector<float> y(static_cast<std::size_t>(out.height * out.row_floats()), -7.0F);
  const auto workspace = make_aligned<std::byte>(op.workspace_bytes(step));
  for (std::int64_t b = 0; b < out.height; b += step) {
    const RowRange rows{b, std::min(out.height, b + step)}, needs = op.input_rows(rows);
    std::vector<const float*> from, add;
    std::vector<float*> to;
    for (std::int64_t r = needs.begin; r < needs.end; ++r)
      from.push_back(x.data() + r * in.row_floats());
    for (std::int64_t r = rows.begin; r < rows.end; ++r) {
      to.push_back(y.data() + r * out.row_floats());
      if (residual) add.push_back(residual->data() + r * out.row_floats());
    }
    const float* const* second = residual ? add.data() : nullptr;
    const InputRows in_rows{from.data(), needs.begin};
    if (!by_shares) op.run_rows(rows, in_rows, second, to.data(), workspace.get());
    Part part = op.whole(rows);
    for (std::int64_t s = by_shares ? op.shares() - 1 : -1; s >= 0; --s) {
      part.shares = {s, s + 1};
      op.run_part(part, in_rows, second, to.data(), workspace.get());
    }
  }
  return y;
}

}  // namespace sepconv::testing
