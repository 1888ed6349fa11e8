#include "ops/transposed_conv_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/aligned.h"
#include "base/sizes.h"
#include "ops/arguments.h"

namespace sepconv {

namespace {

// Which taps of the forward window one phase of the outputs reads, as a window of stride 1: tap i
// of the result is tap `taps[i]`, or a zero where that is kNone.
struct PhaseTaps {
  static constexpr std::int64_t kNone = -1;
  std::vector<std::int64_t> taps;
  std::int64_t pad = 0;
};

// Output o gets x[(o + pad − i·dilation) / stride] · w[i] wherever that is whole; o = phase + t ·
// stride makes it x[t − d] for a distance d that only i decides.
PhaseTaps phase_taps(const Window& w, std::int64_t phase) {
  std::vector<std::pair<std::int64_t, std::int64_t>> reads;  // d and i
  for (std::int64_t i = 0; i < w.size; ++i) {
    const std::int64_t from = i * w.dilation - w.pad - phase;
    if (from % w.stride == 0) reads.emplace_back(from / w.stride, i);
  }
  if (reads.empty()) return {{PhaseTaps::kNone}, 0};
  // Backwards, as a correlation reads from left to right; a window starts no later than its output.
  const std::int64_t farthest = std::max<std::int64_t>(reads.back().first, 0);
  const std::int64_t nearest = reads.front().first;
  PhaseTaps phase_of{std::vector<std::int64_t>(to_size(farthest - nearest + 1), PhaseTaps::kNone),
                     farthest};
  for (const auto& [d, i] : reads) phase_of.taps[to_size(farthest - d)] = i;
  return phase_of;
}

std::int64_t count_of(std::int64_t size, std::int64_t phase, std::int64_t stride) {
  return phase < size ? (size - phase + stride - 1) / stride : 0;
}

}  // namespace

TransposedConvRows::TransposedConvRows(const ImageShape& input, const ImageShape& output,
                                       const Window2d& window, std::int64_t groups,
                                       const float* weight, const float* bias,
                                       const Activation& activation)
    : RowOp(input, output), window_(window) {
  const std::int64_t stride = window.columns.stride, channels = input.channels / groups;
  std::vector<PhaseTaps> columns;
  for (std::int64_t p = 0; p < stride; ++p) columns.push_back(phase_taps(window.columns, p));
  const bool equal = std::all_of(columns.begin(), columns.end(), [&](const PhaseTaps& c) {
    return c.pad == columns[0].pad && c.taps.size() == columns[0].taps.size();
  });
  // A row's phases may be the channels of one convolution.
  const bool joined = equal && groups == 1 && output.width % stride == 0;
  const std::int64_t side_by_side = joined ? stride : 1;
  Conv2dOptions options;
  options.activation = activation;
  for (std::int64_t row = 0; row < std::min(window.rows.stride, output.height); ++row) {
    const PhaseTaps rows = phase_taps(window.rows, row);
    for (std::int64_t column = 0; column < std::min(stride, output.width); column += side_by_side) {
      const PhaseTaps& first = columns[to_size(column)];
      const auto kh = static_cast<std::int64_t>(rows.taps.size());
      const auto kw = static_cast<std::int64_t>(first.taps.size());
      ConvArguments a{};
      a.input = {1, input.channels, input.height, input.width};
      a.output = {1, output.channels * side_by_side,
                  count_of(output.height, row, window.rows.stride),
                  count_of(output.width, column, stride)};
      a.window = {{kh, 1, 1, rows.pad}, {kw, 1, 1, first.pad}};
      a.groups = groups;
      a.weight = Tensor({a.output[1], channels, kh, kw});
      float* to = a.weight.data();
      for (std::int64_t o = 0; o < a.output[1]; ++o) {
        const PhaseTaps& taps = columns[to_size(column + o / output.channels)];
        const float* from = weight + o % output.channels * channels * window.taps();
        for (std::int64_t c = 0; c < channels; ++c, from += window.taps()) {
          for (const std::int64_t i : rows.taps) {
            for (const std::int64_t j : taps.taps) {
              const bool none = i == PhaseTaps::kNone || j == PhaseTaps::kNone;
              *to++ = none ? 0.0F : from[i * window.columns.size + j];
            }
          }
        }
      }
      if (bias) {
        a.bias = Tensor({a.output[1]});
        for (std::int64_t o = 0; o < a.output[1]; ++o) a.bias.data()[o] = bias[o % output.channels];
      }
      const std::shared_ptr<RowOp> op = conv_row_op(a, options);
      op->write_slice_of(stride * output.channels);
      phases_.push_back({row, column, op});
    }
  }
}

void TransposedConvRows::write_past_caches() {
  for (const Phase& phase : phases_) phase.op->write_past_caches();
}

RowRange TransposedConvRows::rows_of(const Phase& phase, RowRange out) const {
  const std::int64_t stride = window_.rows.stride;
  return {count_of(out.begin, phase.row, stride), count_of(out.end, phase.row, stride)};
}

RowRange TransposedConvRows::input_rows(RowRange out) const {
  RowRange all{input().height, 0};
  for (const Phase& phase : phases_) {
    const RowRange rows = rows_of(phase, out);
    if (rows.size() == 0) continue;
    const RowRange need = phase.op->input_rows(rows);
    all = {std::min(all.begin, need.begin), std::max(all.end, need.end)};
  }
  return all.size() > 0 ? all : RowRange{0, 0};
}

std::int64_t TransposedConvRows::phase_rows(std::int64_t rows) const {
  return (rows + window_.rows.stride - 1) / window_.rows.stride;
}

std::size_t TransposedConvRows::workspace_bytes(std::int64_t rows) const {
  const std::int64_t own = phase_rows(rows);
  std::size_t most = 0;
  for (const Phase& phase : phases_) most = std::max(most, phase.op->workspace_bytes(own));
  return align_up(to_size(own) * sizeof(float*)) + most;
}

// Each phase's pixels go where they belong, a stride apart.
void TransposedConvRows::run_rows(RowRange out, const InputRows& x, const float* const*,
                                  float* const* y, std::byte* workspace) const {
  for (const Phase& phase : phases_) {
    const RowRange own = rows_of(phase, out);
    if (own.size() == 0) continue;
    Carver carver(workspace);
    float** rows = carver.take<float*>(to_size(phase_rows(out.size())));
    for (std::int64_t r = own.begin; r < own.end; ++r) {
      rows[r - own.begin] =
          y[phase.row + r * window_.rows.stride - out.begin] + phase.column * output().channels;
    }
    phase.op->run_rows(own, x, nullptr, rows, carver.rest());
  }
}

std::size_t TransposedConvRows::weight_bytes() const {
  std::size_t sum = 0;
  for (const Phase& phase : phases_) sum += phase.op->weight_bytes();
  return sum;
}

double TransposedConvRows::flops() const {
  double sum = 0;
  for (const Phase& phase : phases_) sum += phase.op->flops();
  return sum;
}

std::string TransposedConvRows::describe() const {
  return fmt::format("transposed {}x{} s{}, {} of {}", window_.rows.size, window_.columns.size,
                     window_.rows.stride, phases_.size(), phases_.front().op->describe());
}

}  // namespace sepconv
