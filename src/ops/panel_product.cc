#include "ops/panel_product.h"

#include <algorithm>
#include <numeric>

#include "base/cpu.h"
#include "base/sizes.h"

namespace sepconv {

// What a panel by FMA takes of the workspace.
struct PanelProduct::Room {
  float *scaled, *sums;
};

namespace {

std::optional<AmxSet> choose_amx(const ProductShape& shape) {
  if (shape.groups > 1 || shape.sparse) return std::nullopt;
  return AmxSet::choose(shape.pixels, shape.columns, shape.products());
}

}  // namespace

PackedPanels pack_panels(const ProductShape& shape, const LayerWeights& weights, ErrorBound bound) {
  const std::size_t groups = shape.groups, columns = shape.columns;
  const std::size_t channels = shape.channels(), taps = shape.taps * shape.joined;
  std::optional<PairedSet> pairs;
  if (bound == ErrorBound::kNetwork && !choose_amx(shape) && !shape.sparse) {
    pairs = PairedSet::choose(shape.in_pairs(), weights.weight());
  }
  return {.all = pairs ? pack_paired_weights(weights, groups, columns, channels, taps)
                       : pack_gemm_weights(weights, groups, columns, channels, taps),
          .pairs = pairs};
}

std::size_t PixelBatch::pixels() const {
  return std::accumulate(runs.begin(), runs.end(), std::size_t{0},
                         [](std::size_t sum, const PixelRun& run) { return sum + run.pixels; });
}

PanelProduct::PanelProduct(const ProductShape& shape, PackedPanels packed, const Epilogue& epilogue,
                           bool scaled)
    : shape_(shape),
      scaled_(scaled),
      epilogue_(epilogue),
      kernels_(&gemm_kernels()),
      panels_(divide_up(shape.columns, kernels_->columns)),
      panel_floats_(shape.products() * kernels_->columns),
      pairs_(packed.pairs),
      amx_(pairs_ ? std::nullopt : choose_amx(shape)),
      packed_(std::move(packed.all)),
      weights_(packed_->weights.get() + packed.weight),
      bias_(packed_->bias.get() + packed.column * bias_parts()),
      followed_(packed.followed) {
  const bool prepares = amx_ || pairs_;
  if (shape.pixels == 1 && shape.groups == 1 && shape.taps == 1 && !prepares && !scaled) {
    pixel_kernels_ = &gemv_kernels();
  }
  for (std::size_t i = 0; i < panels_ && amx_ && !scaled; ++i) {
    splits_.push_back(amx_->splits(weights_ + i * panel_floats_, shape.products(),
                                   kernels_->panel_width(columns_of(i))));
  }
}

std::size_t PanelProduct::channel(std::size_t panel) const {
  return panel / panels_ * shape_.columns +
         std::min(shape_.columns, panel % panels_ * kernels_->columns);
}

std::size_t PanelProduct::columns_of(std::size_t panel) const {
  return std::min(kernels_->columns, shape_.columns - panel % panels_ * kernels_->columns);
}

// Splitting weights for AMX takes as long as reading them from L2 four times.
std::size_t PanelProduct::call_bytes() const { return weight_bytes() * (amx_ ? 4 : 1); }

double PanelProduct::preparation() const {
  if (amx_) return amx_->preparation(shape_.columns);
  return pairs_ ? pairs_->preparation(shape_.in_pairs()) : 0;
}

// What is split for AMX, or what every panel reads again, is to stay in half of L2.
std::size_t PanelProduct::pixels_at_once() const {
  if (amx_) return l2_cache_bytes() / 2 / AmxSet::split_bytes(1, shape_.products());
  if (pairs_) return pairs_->rows_at_once(shape_.in_pairs());
  if (panels() == 1) return shape_.pixels;
  const std::size_t channels = shape_.channels() * shape_.groups;
  const std::size_t room =
      l2_cache_bytes() / 2 / sizeof(float) / std::max<std::size_t>(1, channels);
  return std::min(shape_.pixels, std::max(room, kernels_->rows));
}

// Of one panel, between its parts.
std::size_t PanelProduct::sum_floats(std::size_t pixels) const {
  const bool at_once = pairs_ || (shape_.products() <= kGemmPart && !shape_.sparse);
  return at_once ? 0 : pixels * kernels_->columns;
}

// For a scaled panel of weights.
std::size_t PanelProduct::scaled_floats() const { return scaled_ && !pairs_ ? panel_floats_ : 0; }

std::size_t PanelProduct::workspace_bytes(std::size_t pixels) const {
  std::size_t bytes =
      align_up(sum_floats(pixels) * sizeof(float)) + align_up(scaled_floats() * sizeof(float));
  if (amx_) bytes += amx_->workspace_bytes(pixels, shape_.taps, shape_.k);
  if (pairs_) bytes += pairs_->workspace_bytes(pixels, shape_.in_pairs());
  return bytes;
}

GemmTile PanelProduct::tile(std::size_t panel, const PixelBatch& batch) const {
  GemmTile tile{};
  tile.a_offset = panel / panels_ * shape_.channels();
  tile.a_step = batch.a_step;
  tile.taps = shape_.taps;
  tile.k = shape_.k;
  tile.b = weights_ + panel * panel_floats_;
  tile.bias = bias_ + panel * kernels_->columns * bias_parts();
  tile.c_step = batch.c_step;
  tile.columns = columns_of(panel);
  tile.epilogue = epilogue_;
  tile.streams = batch.streams;
  tile.ahead = reinterpret_cast<const char*>(tile.b);
  return tile;
}

// Of one panel.
std::size_t PanelProduct::tiles(const PixelBatch& batch) const {
  const std::size_t rows = pairs_ ? pairs_->kernels->rows : kernels_->rows;
  std::size_t tiles = 0;
  for (const PixelRun& run : batch.runs) tiles += divide_up(run.pixels, rows);
  return tiles;
}

// Every panel's tiles fetch a share of the input that comes next, where that comes from memory, or
// else of the next panel.
void PanelProduct::look_ahead(GemmTile& tile, std::size_t panel, RowRange range, std::size_t tiles,
                              std::span<const float> behind) const {
  const std::size_t steps = tiles * shape_.products(), end = to_size(range.end);
  if (!behind.empty() && !amx_) {
    const std::size_t share = behind.size() / to_size(range.size());
    const float* own = behind.data() + (panel - to_size(range.begin)) * share;
    tile.ahead = reinterpret_cast<const char*>(own);
    tile.ahead_step = share * sizeof(float) / steps;
  } else if (panel + 1 < end || (followed_ && end == panels())) {
    tile.ahead = reinterpret_cast<const char*>(tile.b + panel_floats_);
    tile.ahead_step = panel_floats_ * sizeof(float) / steps;
  }
}

void PanelProduct::run(RowRange panels, const PixelBatch& batch, std::byte* workspace) const {
  if (pairs_) {
    multiply_in_pairs(panels, batch, workspace);
  } else {
    multiply_singly(panels, batch, workspace);
  }
  if (batch.streams) kernels_->finish_stream();
}

void PanelProduct::multiply_in_pairs(RowRange panels, const PixelBatch& batch,
                                     std::byte* workspace) const {
  const auto group = static_cast<std::int64_t>(panels_);
  for (std::int64_t first = panels.begin, end = 0; first < panels.end; first = end) {
    end = std::min(panels.end, (first / group + 1) * group);
    multiply_group({first, end}, panels, batch, workspace);
  }
}

// Some of those panels, of one group.
void PanelProduct::multiply_group(RowRange own, RowRange panels, const PixelBatch& batch,
                                  std::byte* workspace) const {
  const std::size_t tiles = PanelProduct::tiles(batch);
  const std::size_t begin = to_size(own.begin), end = to_size(own.end);
  const GemmTile first = tile(begin, batch);
  PairedProduct product(*pairs_, shape_.in_pairs(), first, batch.runs.data(), batch.pixels(),
                        batch.scale ? batch.scale + first.a_offset : nullptr, workspace);
  for (std::size_t step = 0; step < product.steps(); ++step) {
    product.prepare(step);
    for (std::size_t i = begin; i < end; ++i) {
      GemmTile tile = PanelProduct::tile(i, batch);
      look_ahead(tile, i, panels, tiles, batch.behind);
      if (product.steps() > 1) {
        const bool more = i + 1 < end;
        const float* const next = more ? tile.b + panel_floats_ : first.b;
        const std::size_t at = product.first_product(more ? step : step + 1) * kernels_->columns;
        tile.ahead = reinterpret_cast<const char*>(next + at);
        tile.ahead_step = kernels_->columns * sizeof(float) / tiles;
      }
      product.multiply(tile, i - begin, channel(i));
    }
  }
}

void PanelProduct::multiply_singly(RowRange panels, const PixelBatch& batch,
                                   std::byte* workspace) const {
  Carver carver(workspace);
  const std::size_t pixels = batch.pixels();
  const Room room{carver.take<float>(scaled_floats()), carver.take<float>(sum_floats(pixels))};
  const std::size_t tiles = PanelProduct::tiles(batch), end = to_size(panels.end);
  std::optional<AmxProduct> amx;
  if (amx_) amx.emplace(*amx_, tile(0, batch), batch.runs.data(), pixels, carver.rest());
  std::size_t i = pixel_kernels_ ? multiply_pixel(panels, batch) : to_size(panels.begin);
  for (; i < end; ++i) {
    GemmTile tile = PanelProduct::tile(i, batch);
    look_ahead(tile, i, panels, tiles, batch.behind);
    if (shape_.sparse) {
      multiply_present(tile, channel(i), batch, room);
    } else if (!amx || !multiply_by_amx(tile, i, batch, room, *amx)) {
      multiply_by_fma(tile, channel(i), batch, room);
    }
  }
}

// Whether its tiles add up in an order of their own: see GemmKernels::halves.
bool PanelProduct::is_half(std::size_t panel) const {
  const bool halves = kernels_->halves && shape_.products() <= kGemmPart;
  return halves && columns_of(panel) <= kernels_->lanes + kernels_->lanes / 2;
}

// Those panels that are two vectors wide, some at once, each time nearly as many; returns the first
// one that is left.
std::size_t PanelProduct::multiply_pixel(RowRange panels, const PixelBatch& batch) const {
  const PixelRun& run = batch.runs.front();
  const std::size_t width = kernels_->columns, columns = shape_.columns;
  std::size_t whole =
      std::min(to_size(panels.end), (columns + width - kernels_->lanes - 1) / width);
  if (whole > 0 && is_half(whole - 1)) --whole;
  std::size_t first = to_size(panels.begin);
  for (std::size_t count; first < whole; first += count) {
    const std::size_t left = whole - first;
    count = divide_up(left, divide_up(left, pixel_kernels_->most));
    const GemmTile tile = PanelProduct::tile(first, batch);
    const std::size_t column = first * width;
    pixel_kernels_->panels[count - 1]({.a = run.taps[0],
                                       .k = shape_.k,
                                       .b = tile.b,
                                       .panel_floats = panel_floats_,
                                       .bias = tile.bias,
                                       .residual = run.residual ? run.residual + column : nullptr,
                                       .c = run.y + column,
                                       .columns = std::min(count * width, columns - column),
                                       .epilogue = epilogue_});
  }
  return first;
}

// Part by part, so that the part stays in L1 while the batch's pixels pass; the batch is sized for
// L2. A scale of the input is taken into the part's weights: as many products as there are weights
// instead of one for every pixel's channel.
void PanelProduct::multiply_by_fma(GemmTile tile, std::size_t column, const PixelBatch& batch,
                                   const Room& room) const {
  const std::size_t products = shape_.products(), channel = tile.a_offset,
                    width = kernels_->panel_width(tile.columns);
  const float* const panel = tile.b;
  if (scaled_) tile.b = room.scaled;
  for (tile.start = 0; tile.start < products; tile.start += tile.count) {
    tile.count = std::min(kGemmPart, products - tile.start);
    tile.sums = products > kGemmPart ? room.sums : nullptr;
    if (scaled_) {
      const std::size_t at = tile.start * width;
      kernels_->scale_panel(panel + at, batch.scale + channel + tile.start, tile.count, width,
                            room.scaled + at);
    }
    for (const PixelRun& run : batch.runs) {
      tile.a = run.taps;
      tile.a_offset = channel;
      tile.c = run.y + column;
      tile.residual = run.residual ? run.residual + column : nullptr;
      multiply_rows(*kernels_, tile, run.pixels);
    }
  }
}

// The same of the taps that each run has, a part of a tap at a time.
void PanelProduct::multiply_present(GemmTile tile, std::size_t column, const PixelBatch& batch,
                                    const Room& room) const {
  const std::size_t channel = tile.a_offset, width = kernels_->panel_width(tile.columns);
  const auto present = [](const PixelRun& run, std::size_t taps) {
    return taps - to_size(std::count(run.taps, run.taps + taps, nullptr));
  };
  const float* const panel = tile.b;
  for (std::size_t t = 0; t < shape_.taps; ++t) {
    for (std::size_t k = 0; k < shape_.k; k += kGemmPart) {
      float* sums = room.sums;
      for (const PixelRun& run : batch.runs) {
        tile.sums = sums;
        sums += run.pixels * width;
        const bool there = run.taps[t] != nullptr;
        if (!there && t + k > 0) continue;
        const std::size_t before = present(run, t), all = present(run, shape_.taps);
        if (!there && all > 0) continue;  // without any tap the bias is all
        tile.a = run.taps + (t - before);
        tile.a_offset = channel;
        tile.taps = all;
        tile.start = before * shape_.k + k;
        tile.count = there ? std::min(kGemmPart, shape_.k - k) : 0;
        tile.b = panel + (t - before) * shape_.k * width;
        tile.c = run.y + column;
        tile.residual = run.residual ? run.residual + column : nullptr;
        multiply_rows(*kernels_, tile, run.pixels);
      }
    }
  }
}

// False where the panel does not split well.
bool PanelProduct::multiply_by_amx(GemmTile tile, std::size_t panel, const PixelBatch& batch,
                                   const Room& room, AmxProduct& amx) const {
  if (scaled_) {
    const std::size_t products = shape_.products(), width = kernels_->panel_width(tile.columns);
    kernels_->scale_panel(tile.b, batch.scale, products, width, room.scaled);
    tile.b = room.scaled;
    if (!amx_->splits(tile.b, products, width)) return false;
  } else if (!splits_[panel]) {
    return false;
  }
  amx.multiply(tile, channel(panel));
  return true;
}

std::string PanelProduct::describe() const {
  if (amx_) return AmxSet::describe();
  return pairs_ ? pairs_->kernels->describe() : kernels_->describe();
}

}  // namespace sepconv
