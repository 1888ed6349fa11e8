#include "ops/depthwise_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "ops/depthwise_weights.h"

namespace sepconv {

DepthwiseRows2d::DepthwiseRows2d(const ImageShape& input, const ImageShape& output,
                                 const Window2d& window, const LayerWeights& weights,
                                 const Epilogue& epilogue, ErrorBound bound, std::int64_t group)
    : RowOp(input, output),
      window_(window),
      epilogue_(epilogue),
      lanes_(depthwise_nhwc_kernels().lanes),
      scheme_(&depthwise_nhwc_kernels().general),
      multiplier_(input.channels > 0 ? output.channels / input.channels : 1),
      group_(group) {
  choose_kernel(weights, bound);
  choose_band();
}

bool DepthwiseRows2d::takes_groups(const ImageShape& input, const ImageShape& output,
                                   const Window2d& window, std::int64_t groups) {
  const Window &r = window.rows, &c = window.columns;
  const bool square = r.size == c.size && r.stride == c.stride;
  if (!square || r.size != 3 || r.stride > 2 || r.dilation > 1 || c.dilation > 1) return false;
  const auto lanes = static_cast<std::int64_t>(depthwise_nhwc_kernels().lanes);
  if (groups == 1 || input.channels != output.channels || output.channels < lanes) return false;
  // With stride 2 a permutation serves too few products for a panel one vector wide to be slower.
  const std::int64_t group = output.channels / groups, most = r.stride == 1 ? lanes : lanes / 2;
  return group > 1 && group <= most && lanes % group == 0;
}

void DepthwiseRows2d::choose_kernel(const LayerWeights& weights, ErrorBound bound) {
  const Window &r = window_.rows, &c = window_.columns;
  const std::size_t channels = to_size(output().channels);
  const bool whole_vectors = channels >= lanes_;
  // Where vectors are added whole its loads take longer than what it saves.
  const bool trades = bound == ErrorBound::kNetwork && adders_traded_for() == Adders::kHalf;
  if (group_ == 1 && trades && whole_vectors &&
      suits_depthwise_winograd(weights.weight(), channels, window_, input().width,
                               output().width)) {
    scheme_ = &depthwise_winograd_scheme();
    packed_ = pack_depthwise_winograd_weights(weights, channels, window_, lanes_);
    return;
  }
  const bool square = r.size == c.size && r.stride == c.stride;
  const bool known = (r.size == 3 || r.size == 5 || r.size == 7) && r.stride <= 2;
  const bool dilates = r.dilation > 1 || c.dilation > 1;
  if (group_ > 1) {
    scheme_ = &depthwise_nhwc_kernels().grouped[to_size(r.stride - 1)];
  } else if (square && known && (r.stride == 1 || !dilates) && whole_vectors) {
    interleaves_ = dilates;
    scheme_ = &depthwise_nhwc_kernels().slide[to_size(r.size / 2 - 1)][to_size(r.stride - 1)];
  }
  packed_ = pack_depthwise_weights(weights, channels, to_size(group_), window_, lanes_);
}

// With a multiplier rows are copied first.
std::int64_t DepthwiseRows2d::source_pixel() const {
  return multiplier_ > 1 ? output().channels : input_pixel();
}

void DepthwiseRows2d::read_slice_of(std::int64_t channels) {
  RowOp::read_slice_of(channels);
  choose_band();
}

void DepthwiseRows2d::choose_band() {
  const Window& r = window_.rows;
  const auto most = static_cast<std::int64_t>(scheme_->band);
  band_ = 1;
  if (scheme_->fetches && r.size > 1) {
    band_ = most;
    while (band_ > 2 && !fits_l1(band_)) --band_;
  } else if (r.stride == 1 && r.dilation == 1) {
    band_ = std::min(most, r.size);
  }
}

// Whether four pixels of each row of a band, input and output, have places of their own in L1:
// pixels a large power of two apart share few (a set of L1 is chosen by the low twelve bits).
bool DepthwiseRows2d::fits_l1(std::int64_t band) const {
  constexpr std::int64_t kLine = kAlignment, kSets = 64;
  const std::int64_t lines = static_cast<std::int64_t>(l1_cache_bytes()) / kLine;
  const std::int64_t bytes = source_pixel() * pixels_apart() * 4;
  const std::int64_t sharing = bytes % kLine == 0 ? std::gcd(bytes / kLine, kSets) : 1;
  const std::int64_t rows = (band - 1) * window_.rows.stride + window_.rows.size + band;
  return 4 * rows < lines / sharing;
}

// Room for pointers to a band's rows.
struct DepthwiseRows2d::Pointers {
  const float** in;
  float** out;
};

namespace {

// That the rows of a band are computed from.
std::size_t most_input_rows(const Window& rows) {
  return (DepthwiseScheme::kMaxBand - 1) * to_size(rows.stride) + to_size(rows.size);
}

}  // namespace

RowRange DepthwiseRows2d::input_rows(RowRange out) const {
  return positions(window_.rows, out, input().height);
}

std::size_t DepthwiseRows2d::workspace_bytes(std::int64_t rows) const {
  std::size_t bytes = align_up(most_input_rows(window_.rows) * sizeof(float*)) +
                      align_up(DepthwiseScheme::kMaxBand * sizeof(float*));
  if (multiplier_ > 1) {
    const std::int64_t in = (rows - 1) * window_.rows.stride + extent(window_.rows);
    const std::size_t count = to_size(std::min(in, input().height));
    bytes += align_up(count * sizeof(float*)) +
             count * align_up(to_size(input().width * output().channels) * sizeof(float));
  }
  return bytes;
}

// With a channel multiplier the input rows are first widened to the output's
// channels.
InputRows DepthwiseRows2d::repeat_channels(RowRange out, const InputRows& x,
                                           std::byte*& workspace) const {
  const RowRange in = input_rows(out);
  Carver carver(workspace);
  const float** rows = carver.take<const float*>(to_size(in.size()));
  for (std::int64_t r = in.begin; r < in.end; ++r) {
    const float* from = x.row[r - x.first];
    float* to = carver.take<float>(to_size(input().width * output().channels));
    rows[r - in.begin] = to;
    for (std::int64_t i = 0; i < input().row_floats(); ++i) {
      to = std::fill_n(to, multiplier_, from[i]);
    }
  }
  workspace = carver.rest();
  return {rows, in.begin};
}

// Whether every vector of these rows is one cache line; what is activated is read again.
bool DepthwiseRows2d::streams(RowRange out, const float* const* y) const {
  if (!past_caches_ || epilogue_.kind != ActivationKind::kNone || lanes_ != kLineFloats) {
    return false;
  }
  if (!whole_lines(output().channels) || !whole_lines(output_pixel())) return false;
  return std::all_of(y, y + out.size(), [](const float* row) { return is_aligned(row); });
}

std::size_t DepthwiseRows2d::blocks() const {
  return divide_up(to_size(output().channels), lanes_);
}

// Cache lines of channels.
std::int64_t DepthwiseRows2d::shares() const {
  const bool apart = whole_lines(output_pixel()) && whole_lines(output().channels);
  return apart && multiplier_ == 1 ? output().channels / static_cast<std::int64_t>(kLineFloats) : 1;
}

void DepthwiseRows2d::run_rows(RowRange out, const InputRows& x, const float* const* second,
                               float* const* y, std::byte* workspace) const {
  run_part(whole(out), x, second, y, workspace);
}

// What the next band reads first, where this one reads rows up to `end`.
const float* DepthwiseRows2d::behind(std::int64_t end, const InputRows& x) const {
  const std::int64_t last = std::min(end, input().height) - 1 - x.first;
  const bool fetches = x.end != nullptr && scheme_->fetches && multiplier_ == 1;
  if (!fetches || last < 0) return nullptr;
  const float* next = x.row[last] + input_row_floats();
  return next < x.end ? next : nullptr;
}

void DepthwiseRows2d::run_part(const Part& part, const InputRows& x, const float* const*,
                               float* const* y, std::byte* workspace) const {
  const RowRange out = part.rows;
  const InputRows source = multiplier_ > 1 ? repeat_channels(out, x, workspace) : x;
  const Window& rows = window_.rows;
  Carver carver(workspace);
  const Pointers room{carver.take<const float*>(most_input_rows(rows)),
                      carver.take<float*>(DepthwiseScheme::kMaxBand)};
  DepthwiseRows args{};
  args.in = room.in;
  args.out = room.out;
  args.in_pixel = to_size(source_pixel());
  args.out_pixel = to_size(output_pixel());
  args.channels = to_size(output().channels);
  args.group = to_size(group_);
  args.in_width = input().width;
  args.out_width = output().width;
  args.rows = window_.rows;
  args.columns = window_.columns;
  args.weights = packed_->weights.get();
  args.bias = packed_->bias.get();
  args.epilogue = epilogue_;
  args.streams = streams(out, y);
  args.ahead_end = x.end;
  const std::size_t all = to_size(DepthwiseRows2d::shares());
  args.first_block = blocks() * to_size(part.shares.begin) / all;
  args.end_block = blocks() * to_size(part.shares.end) / all;
  const std::int64_t apart = rows_apart();
  for (std::int64_t first = out.begin; first < std::min(out.begin + apart, out.end); ++first) {
    for (std::int64_t o = first, band; o < out.end; o += band * apart) {
      const std::int64_t top = o * rows.stride - rows.pad;
      band = std::min(band_, divide_up(out.end - o, apart));
      const std::int64_t end = top + (band - 1) * rows.stride + rows.size;
      args.ahead = interleaves_ ? nullptr : behind(end, x);
      run_band(args, top, band, source, y + (o - out.begin), room);
    }
  }
}

// Some rows, rows_apart() from each other, whose first window begins at input row `top`; y: where
// the first of them goes, and all behind it.
void DepthwiseRows2d::run_band(DepthwiseRows args, std::int64_t top, std::int64_t band,
                               const InputRows& x, float* const* y, const Pointers& room) const {
  const std::int64_t count = (band - 1) * args.rows.stride + args.rows.size;
  for (std::int64_t phase = 0; phase < std::min(pixels_apart(), output().width); ++phase) {
    const auto [rows, pixel] = phase_of(args, phase);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t r = top + i * args.rows.dilation;
      const bool there = r >= 0 && r < input().height;
      room.in[i] = there ? x.row[r - x.first] + pixel * source_pixel() : nullptr;
    }
    for (std::int64_t i = 0; i < band; ++i) {
      room.out[i] = y[i * rows_apart()] + phase * output_pixel();
    }
    scheme_->rows[band - 1](rows);
  }
}

// Every pixels_apart()-th output, from `phase` on, and the first input pixel of those that they
// are computed from.
std::pair<DepthwiseRows, std::int64_t> DepthwiseRows2d::phase_of(DepthwiseRows rows,
                                                                 std::int64_t phase) const {
  const std::int64_t apart = pixels_apart(), left = phase - rows.columns.pad;
  const std::int64_t first = std::min((left % apart + apart) % apart, rows.in_width);
  rows.columns.pad = (first - left) / apart;
  rows.columns.dilation /= apart;
  rows.in_width = divide_up(rows.in_width - first, apart);
  rows.out_width = divide_up(rows.out_width - phase, apart);
  rows.in_pixel *= to_size(apart);
  rows.out_pixel *= to_size(apart);
  return {rows, first};
}

double DepthwiseRows2d::flops() const {
  const std::int64_t products = window_.taps() * group_;
  return 2.0 * static_cast<double>(output().height * output().row_floats() * products);
}

std::string DepthwiseRows2d::describe() const {
  const std::string kind =
      group_ > 1 ? fmt::format("conv {}x{} g{}", window_.rows.size, window_.columns.size,
                               output().channels / group_)
                 : fmt::format("depthwise {}x{}", window_.rows.size, window_.columns.size);
  return fmt::format("{}{} {} {}x{}", kind, describe_steps(window_), scheme_->name, band_, lanes_);
}

}  // namespace sepconv
