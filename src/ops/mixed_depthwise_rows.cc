#include "ops/mixed_depthwise_rows.h"

#include <algorithm>

#include "base/sizes.h"

namespace sepconv {

RowRange MixedDepthwiseRows::input_rows(RowRange out) const {
  RowRange rows = parts_.front().op->input_rows(out);
  for (const Part& part : parts_) {
    const RowRange own = part.op->input_rows(out);
    rows = {std::min(rows.begin, own.begin), std::max(rows.end, own.end)};
  }
  return rows;
}

std::size_t MixedDepthwiseRows::workspace_bytes(std::int64_t rows) const {
  std::size_t most = 0;
  for (const Part& part : parts_) most = std::max(most, part.op->workspace_bytes(rows));
  return align_up(to_size(input().height) * sizeof(float*)) +
         align_up(to_size(rows) * sizeof(float*)) + most;
}

void MixedDepthwiseRows::run_rows(RowRange out, const InputRows& x, const float* const*,
                                  float* const* y, std::byte* workspace) const {
  Carver carver(workspace);
  const float** in_rows = carver.take<const float*>(to_size(input().height));
  float** out_rows = carver.take<float*>(to_size(out.size()));
  for (const Part& part : parts_) {
    const RowRange in = part.op->input_rows(out);
    for (std::int64_t r = in.begin; r < in.end; ++r) {
      in_rows[r - in.begin] = x.row[r - x.first] + part.channel;
    }
    for (std::int64_t r = 0; r < out.size(); ++r) out_rows[r] = y[r] + part.channel;
    part.op->run_rows(out, {in_rows, in.begin}, nullptr, out_rows, carver.rest());
  }
}

std::int64_t MixedDepthwiseRows::row_multiple() const {
  std::int64_t most = 1;
  for (const Part& part : parts_) most = std::max(most, part.op->row_multiple());
  return most;
}

std::size_t MixedDepthwiseRows::weight_bytes() const {
  std::size_t bytes = 0;
  for (const Part& part : parts_) bytes += part.op->weight_bytes();
  return bytes;
}

double MixedDepthwiseRows::flops() const {
  double sum = 0;
  for (const Part& part : parts_) sum += part.op->flops();
  return sum;
}

std::string MixedDepthwiseRows::describe() const {
  std::string text = "mixed (";
  for (const Part& part : parts_) {
    text += (part.channel == 0 ? "" : ", ") + part.op->describe();
  }
  return text + ")";
}

}  // namespace sepconv
