#include "ops/conv_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/cpu.h"
#include "base/sizes.h"

namespace sepconv {

// Input rows that taps can be read from without regard to borders.
struct ConvRows::Sources {
  const float* const* row;  // row[i] is (padded) image row first + i; padding rows included
  std::int64_t first;
};

// What panels are multiplied with, and room for that.
struct ConvRows::Batch {
  const PixelRun* runs;
  std::size_t count;
  const float* scale;
  std::size_t pixels;             // of all runs
  std::size_t tiles;              // of one panel
  std::span<const float> behind;  // what is read next and comes from memory
  float *scaled = nullptr, *sums = nullptr;
  AmxProduct* amx = nullptr;
  std::byte* workspace = nullptr;  // for products in pairs
};

ConvRows::ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                   std::int64_t groups, const Epilogue& epilogue)
    : RowOp(input, output),
      window_(window),
      groups_(groups),
      epilogue_(epilogue),
      kernels_(&gemm_kernels()),
      most_rows_(std::max<std::int64_t>(1, output.height)) {
  // Adjacent taps of a row are adjacent floats, so that they make one longer run.
  const bool joined = groups == 1 && window.columns.dilation == 1;
  taps_ = to_size(joined ? window.rows.size : window.taps());
  k_ = to_size(input.channels / groups * (joined ? window.columns.size : 1));
  const std::int64_t reach = (output.width - 1) * window.columns.stride + extent(window.columns);
  const std::int64_t below = (output.height - 1) * window.rows.stride + extent(window.rows);
  copies_rows_ = window.columns.pad > 0 || window.rows.pad > 0 ||
                 reach - window.columns.pad > input.width || below - window.rows.pad > input.height;
  panels_ = divide_up(to_size(output.channels / groups), kernels_->columns);
  panel_floats_ = to_size(input.channels / groups * window.taps()) * kernels_->columns;
  weight_floats_ = to_size(groups) * panels_ * panel_floats_;
}

ConvRows::ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                   std::int64_t groups, const LayerWeights& weights, const Epilogue& epilogue,
                   ErrorBound bound, bool scaled)
    : ConvRows(input, output, window, groups, epilogue) {
  scaled_ = scaled;
  const std::size_t out = to_size(output.channels / groups),
                    channels = to_size(input.channels / groups), taps = to_size(window.taps());
  amx_ = choose_amx();
  if (bound == ErrorBound::kNetwork && !amx_) {
    pairs_ = PairedSet::choose(pixels(), to_size(groups), out, channels * taps, weights.weight());
  }
  packed_ = pairs_ ? pack_paired_weights(weights, to_size(groups), out, channels, taps)
                   : pack_gemm_weights(weights, to_size(groups), out, channels, taps);
  use_weights(packed_->weights.get(), packed_->bias.get());
}

ConvRows::ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                   Packed packed, const Epilogue& epilogue)
    : ConvRows(input, output, window, 1, epilogue) {
  packed_ = std::move(packed.all);
  followed_ = packed.followed;
  pairs_ = packed.pairs;
  if (!pairs_) amx_ = choose_amx();
  use_weights(packed_->weights.get() + packed.weight,
              packed_->bias.get() + packed.column * bias_parts());
}

void ConvRows::use_weights(const float* weights, const float* bias) {
  weights_ = weights;
  bias_ = bias;
  const bool prepares = amx_ || pairs_;
  if (pixels() == 1 && groups_ == 1 && taps_ == 1 && !prepares && !scaled_) {
    row_kernels_ = &gemv_kernels();
  }
  if (!prepares) return;
  // The left side is to stay in half of L2.
  const std::size_t width = to_size(output().width), products = taps_ * k_;
  const std::size_t row_bytes =
      amx_ ? AmxSet::split_bytes(width, products) : PairedSet::prepared_bytes(width, products);
  most_rows_ =
      static_cast<std::int64_t>(std::max<std::size_t>(1, l2_cache_bytes() / 2 / row_bytes));
  for (std::size_t i = 0; i < panels_ && amx_ && !scaled_; ++i) {
    const GemmTile tile = panel_tile(i);
    splits_.push_back(amx_->splits(tile.b, products, kernels_->panel_width(tile.columns)));
  }
}

std::size_t ConvRows::pixels() const { return to_size(output().height * output().width); }

std::optional<AmxSet> ConvRows::choose_amx() const {
  if (groups_ > 1) return std::nullopt;
  return AmxSet::choose(pixels(), to_size(output().channels), taps_ * k_);
}

// Of one panel, between its parts.
std::size_t ConvRows::sum_floats(std::int64_t rows) const {
  if (pairs_ || taps_ * k_ <= kGemmPart) return 0;
  return to_size(rows * output().width) * kernels_->columns;
}

// For a scaled panel of weights.
std::size_t ConvRows::scaled_floats() const { return scaled_ && !pairs_ ? panel_floats_ : 0; }

RowRange ConvRows::input_rows(RowRange out) const {
  return positions(window_.rows, out, input().height);
}

std::size_t ConvRows::workspace_bytes(std::int64_t rows) const {
  rows = std::min(rows, most_rows_);
  std::size_t bytes = align_up(to_size(rows) * sizeof(PixelRun)) +
                      align_up(to_size(rows) * taps_ * sizeof(const float*)) +
                      align_up(sum_floats(rows) * sizeof(float)) +
                      align_up(scaled_floats() * sizeof(float));
  const std::size_t pixels = to_size(rows * output().width);
  if (amx_) bytes += amx_->workspace_bytes(pixels, taps_, k_);
  if (pairs_) bytes += pairs_->workspace_bytes(pixels, taps_, k_);
  const std::size_t source_rows = to_size((rows - 1) * window_.rows.stride + extent(window_.rows));
  bytes += align_up(source_rows * sizeof(float*));
  if (copies_rows_) {
    const std::int64_t reach =
        (output().width - 1) * window_.columns.stride + extent(window_.columns);
    bytes += (source_rows + 1) * align_up(to_size(reach * input().channels) * sizeof(float));
  }
  return bytes;
}

ConvRows::Sources ConvRows::pad_rows(RowRange out, const InputRows& x,
                                     std::byte*& workspace) const {
  const std::int64_t first = out.begin * window_.rows.stride - window_.rows.pad;
  const std::int64_t count = (out.size() - 1) * window_.rows.stride + extent(window_.rows);
  Carver carver(workspace);
  const float** rows = carver.take<const float*>(to_size(count));
  if (!copies_rows_) {
    for (std::int64_t i = 0; i < count; ++i) rows[i] = x.row[first + i - x.first];
    workspace = carver.rest();
    return {rows, first};
  }
  const std::int64_t channels = input().channels;
  const std::int64_t reach =
      (output().width - 1) * window_.columns.stride + extent(window_.columns);
  const std::int64_t left = window_.columns.pad;
  const std::int64_t inside = std::clamp<std::int64_t>(reach - left, 0, input().width);
  const std::int64_t left_floats = std::min(left, reach) * channels;
  float* zeros = carver.take<float>(to_size(reach * channels));
  std::fill_n(zeros, reach * channels, 0.0F);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t r = first + i;
    if (r < 0 || r >= input().height) {
      rows[i] = zeros;
      continue;
    }
    float* row = carver.take<float>(to_size(reach * channels));
    std::fill_n(row, left_floats, 0.0F);
    std::memcpy(row + left_floats, x.row[r - x.first], to_size(inside * channels) * sizeof(float));
    std::fill(row + left_floats + inside * channels, row + reach * channels, 0.0F);
    rows[i] = row;
  }
  workspace = carver.rest();
  return {rows, first};
}

void ConvRows::run_rows(RowRange out, const InputRows& x, const float* const* residual,
                        float* const* y, std::byte* workspace) const {
  run_shares({0, shares()}, out, x, residual, y, workspace);
}

// Panels of weights, of as many columns together as a cache line has.
std::int64_t ConvRows::shares() const {
  const bool apart = whole_lines(output_pixel()) && whole_lines(output().channels / groups_);
  const std::size_t together = std::max<std::size_t>(1, kLineFloats / kernels_->columns);
  return apart ? static_cast<std::int64_t>(divide_up(to_size(groups_) * panels_, together)) : 1;
}

RowRange ConvRows::share_panels(RowRange shares) const {
  const std::int64_t all = ConvRows::shares();
  const auto panels = static_cast<std::int64_t>(to_size(groups_) * panels_);
  const std::int64_t each = (panels + all - 1) / all;
  return {shares.begin * each, std::min(panels, shares.end * each)};
}

RowRange ConvRows::share_channels(RowRange shares) const {
  const RowRange panels = share_panels(shares);
  return {to_channel(panels.begin), to_channel(panels.end)};
}

// Where a panel's first column is among the output's channels.
std::int64_t ConvRows::to_channel(std::int64_t panel) const {
  const auto per_group = static_cast<std::int64_t>(panels_);
  const std::int64_t channels = output().channels / groups_;
  return panel / per_group * channels +
         std::min(channels, panel % per_group * static_cast<std::int64_t>(kernels_->columns));
}

void ConvRows::run_shares(RowRange shares, RowRange out, const InputRows& x,
                          const float* const* residual, float* const* y,
                          std::byte* workspace) const {
  const RowRange own = share_panels(shares);
  const std::int64_t bands = (out.size() + most_rows_ - 1) / most_rows_;
  for (std::int64_t band = 0, first = 0, end = 0; band < bands; ++band, first = end) {
    end = out.size() * (band + 1) / bands;
    const RowRange some{out.begin + first, out.begin + end};
    run_panels(own, some, x, residual ? residual + first : nullptr, y + first, workspace);
  }
}

void ConvRows::run_panels(RowRange panels, RowRange out, const InputRows& x,
                          const float* const* residual, float* const* y,
                          std::byte* workspace) const {
  const Sources source = pad_rows(out, x, workspace);
  Carver carver(workspace);
  PixelRun* runs = carver.take<PixelRun>(to_size(out.size()));
  const float** taps = carver.take<const float*>(to_size(out.size()) * taps_);
  const std::size_t per_row = taps_ / to_size(window_.rows.size);
  const std::size_t tap_step = to_size(window_.columns.dilation * input().channels);
  const std::size_t width = to_size(output().width);
  std::size_t count = 0;
  for (std::int64_t r = 0; r < out.size(); ++r, taps += taps_) {
    for (std::int64_t ky = 0; ky < window_.rows.size; ++ky) {
      const float* row = source.row[r * window_.rows.stride + ky * window_.rows.dilation];
      for (std::size_t kx = 0; kx < per_row; ++kx) {
        taps[to_size(ky) * per_row + kx] = row + kx * tap_step;
      }
    }
    const PixelRun run{taps, y[r], residual ? residual[r] : nullptr, width};
    if (count > 0 && continues(runs[count - 1], run)) {
      runs[count - 1].pixels += width;
    } else {
      runs[count++] = run;
    }
  }
  std::size_t tiles = 0;
  for (std::size_t i = 0; i < count; ++i) tiles += divide_up(runs[i].pixels, tile_rows());
  Batch batch{.runs = runs,
              .count = count,
              .scale = x.scale,
              .pixels = to_size(out.size()) * width,
              .tiles = tiles,
              .behind = behind(x, input_rows(out))};
  batch.scaled = carver.take<float>(scaled_floats());
  batch.sums = carver.take<float>(sum_floats(out.size()));
  std::optional<AmxProduct> amx;
  if (amx_) {
    amx.emplace(*amx_, panel_tile(0), runs, batch.pixels, carver.rest());
    batch.amx = &*amx;
  }
  batch.workspace = carver.rest();
  multiply(panels, batch);
}

// As in GemmTile. Rows that were copied are dense, and so are those they were copied from.
std::size_t ConvRows::a_step() const { return to_size(window_.columns.stride * input_pixel()); }

// Whether the pixels of b follow those of a at the same steps, in every tap and in the output.
bool ConvRows::continues(const PixelRun& a, const PixelRun& b) const {
  const std::size_t in = a.pixels * a_step(), out = a.pixels * to_size(output_pixel());
  for (std::size_t t = 0; t < taps_; ++t) {
    if (a.taps[t] + in != b.taps[t]) return false;
  }
  return a.y + out == b.y && (!a.residual || a.residual + out == b.residual);
}

GemmTile ConvRows::panel_tile(std::size_t panel) const {
  const std::size_t n = to_size(output().channels / groups_);
  GemmTile tile{};
  tile.a_offset = panel / panels_ * to_size(input().channels / groups_);
  tile.a_step = a_step();
  tile.taps = taps_;
  tile.k = k_;
  tile.b = weights_ + panel * panel_floats_;
  tile.bias = bias_ + panel * kernels_->columns * bias_parts();
  tile.c_step = to_size(output_pixel());
  tile.columns = std::min(kernels_->columns, n - panel % panels_ * kernels_->columns);
  tile.epilogue = epilogue_;
  tile.ahead = reinterpret_cast<const char*>(tile.b);
  return tile;
}

// Whether every row of every tile is whole cache lines; what is activated is read again.
bool ConvRows::streams(const Batch& batch) const {
  if (!past_caches_ || epilogue_.kind != ActivationKind::kNone) return false;
  const bool lines = whole_lines(output().channels / groups_) && whole_lines(output_pixel()) &&
                     kernels_->columns % kLineFloats == 0;
  return lines && std::all_of(batch.runs, batch.runs + batch.count,
                              [](const PixelRun& run) { return is_aligned(run.y); });
}

// What is read after these rows of images from memory: as much as they are, if there is.
std::span<const float> ConvRows::behind(const InputRows& x, RowRange in) const {
  if (x.end == nullptr || in.size() == 0) return {};
  const float* next = x.row[in.end - 1 - x.first] + input_row_floats();
  const std::int64_t left = std::max<std::int64_t>(0, x.end - next);
  return {next, to_size(std::min(left, in.size() * input_row_floats()))};
}

// Every panel's tiles fetch a share of the input that comes next, where that comes from memory, or
// else of the next panel.
void ConvRows::look_ahead(GemmTile& tile, std::size_t panel, RowRange panels,
                          const Batch& batch) const {
  const std::size_t steps = batch.tiles * taps_ * k_, end = to_size(panels.end);
  if (!batch.behind.empty() && !batch.amx) {
    const std::size_t share = batch.behind.size() / to_size(panels.size());
    const float* own = batch.behind.data() + (panel - to_size(panels.begin)) * share;
    tile.ahead = reinterpret_cast<const char*>(own);
    tile.ahead_step = share * sizeof(float) / steps;
  } else if (panel + 1 < end || (followed_ && end == to_size(groups_) * panels_)) {
    tile.ahead = reinterpret_cast<const char*>(tile.b + panel_floats_);
    tile.ahead_step = panel_floats_ * sizeof(float) / steps;
  }
}

void ConvRows::multiply(RowRange panels, const Batch& batch) const {
  const bool streams = ConvRows::streams(batch);
  std::optional<PairedProduct> pairs;
  std::size_t i = to_size(panels.begin);
  if (row_kernels_) i = multiply_row(i, to_size(panels.end), *batch.runs);
  for (; i < to_size(panels.end); ++i) {
    GemmTile tile = panel_tile(i);
    tile.streams = streams;
    look_ahead(tile, i, panels, batch);
    const std::size_t column = to_size(to_channel(static_cast<std::int64_t>(i)));
    if (pairs_) {
      const bool other_group = i % panels_ == 0;
      if (!pairs || other_group) pairs.emplace(prepare_group(tile, batch));
      pairs->multiply(tile, column);
    } else if (!batch.amx || !multiply_by_amx(tile, i, column, batch)) {
      multiply_by_fma(tile, column, batch);
    }
  }
  if (streams) kernels_->finish_stream();
}

// The rows' channels of the tile's group.
PairedProduct ConvRows::prepare_group(const GemmTile& tile, const Batch& batch) const {
  const float* const scale = batch.scale ? batch.scale + tile.a_offset : nullptr;
  return {*pairs_, tile, batch.runs, batch.pixels, scale, batch.workspace};
}

// The panels from `first` on that are two vectors wide, in groups of nearly equal size; returns the
// first one that is left.
std::size_t ConvRows::multiply_row(std::size_t first, std::size_t end, const PixelRun& run) const {
  const std::size_t width = kernels_->columns, channels = to_size(output().channels);
  const std::size_t whole = std::min(end, (channels + width - kernels_->lanes - 1) / width);
  for (std::size_t count; first < whole; first += count) {
    const std::size_t left = whole - first;
    count = divide_up(left, divide_up(left, row_kernels_->most));
    const GemmTile tile = panel_tile(first);
    const std::size_t column = first * width;
    row_kernels_->panels[count - 1]({.a = run.taps[0],
                                     .k = k_,
                                     .b = tile.b,
                                     .panel_floats = panel_floats_,
                                     .bias = tile.bias,
                                     .residual = run.residual ? run.residual + column : nullptr,
                                     .c = run.y + column,
                                     .columns = std::min(count * width, channels - column),
                                     .epilogue = epilogue_});
  }
  return first;
}

// Part by part, so that the part stays in L1 while the band's pixels pass; the band is sized for
// L2. A scale of the input is taken into the part's weights: as many products as there are weights
// instead of one for every pixel's channel.
void ConvRows::multiply_by_fma(GemmTile tile, std::size_t column, const Batch& batch) const {
  const std::size_t products = taps_ * k_, channel = tile.a_offset,
                    width = kernels_->panel_width(tile.columns);
  const float* const panel = tile.b;
  if (scaled_) tile.b = batch.scaled;
  for (tile.start = 0; tile.start < products; tile.start += tile.count) {
    tile.count = std::min(kGemmPart, products - tile.start);
    tile.sums = products > kGemmPart ? batch.sums : nullptr;
    if (scaled_) {
      const std::size_t at = tile.start * width;
      kernels_->scale_panel(panel + at, batch.scale + channel + tile.start, tile.count, width,
                            batch.scaled + at);
    }
    for (const PixelRun* run = batch.runs; run < batch.runs + batch.count; ++run) {
      tile.a = run->taps;
      tile.a_offset = channel;
      tile.c = run->y + column;
      tile.residual = run->residual ? run->residual + column : nullptr;
      multiply_rows(*kernels_, tile, run->pixels);
    }
  }
}

// False where the panel does not split well.
bool ConvRows::multiply_by_amx(GemmTile tile, std::size_t panel, std::size_t column,
                               const Batch& batch) const {
  if (scaled_) {
    const std::size_t products = taps_ * k_, width = kernels_->panel_width(tile.columns);
    kernels_->scale_panel(tile.b, batch.scale, products, width, batch.scaled);
    tile.b = batch.scaled;
    if (!amx_->splits(tile.b, products, width)) return false;
  } else if (!splits_[panel]) {
    return false;
  }
  batch.amx->multiply(tile, column);
  return true;
}

double ConvRows::flops() const {
  return 2.0 * static_cast<double>(output().height * output().row_floats()) *
         static_cast<double>(window_.taps() * (input().channels / groups_));
}

std::string ConvRows::describe() const {
  const std::string kind = window_.taps() == 1
                               ? "pointwise"
                               : fmt::format("conv {}x{}", window_.rows.size, window_.columns.size);
  const std::string group = groups_ > 1 ? fmt::format(" g{}", groups_) : "";
  const std::string stride =
      window_.rows.stride > 1 ? fmt::format(" s{}", window_.rows.stride) : "";
  const std::string kernel = amx_     ? AmxSet::describe()
                             : pairs_ ? pairs_->kernels->describe()
                                      : kernels_->describe();
  return fmt::format("{}{}{}{} {}", scaled_ ? "scaled " : "", kind, group, stride, kernel);
}

}  // namespace sepconv
