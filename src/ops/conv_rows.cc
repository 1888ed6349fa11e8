#include "ops/conv_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/sizes.h"

namespace sepconv {

// Input rows that taps can be read from without regard to borders.
struct ConvRows::Sources {
  const float* const* row;  // row[i] is (padded) image row first + i; padding rows included
  std::int64_t first;
};

namespace {

ProductShape product_shape(const ImageShape& input, const ImageShape& output,
                           const Window2d& window, std::int64_t groups) {
  // Adjacent taps of a row are adjacent floats, so that they make one longer run.
  const bool sparse = ConvRows::computed_part(input, output, window) < 1;
  const bool adjacent = groups == 1 && window.columns.dilation == 1 && !sparse;
  const std::int64_t joined = adjacent ? window.columns.size : 1;
  return {.pixels = to_size(output.height * output.width),
          .groups = to_size(groups),
          .columns = to_size(output.channels / groups),
          .taps = to_size(window.taps() / joined),
          .k = to_size(input.channels / groups * joined),
          .joined = to_size(joined),
          .sparse = sparse};
}

// Rows or columns of the input that the windows of so many outputs take up.
std::int64_t windows_reach(const Window& w, std::int64_t outputs) {
  return (outputs - 1) * w.stride + extent(w);
}

bool needs_padding(const Window& w, std::int64_t size, std::int64_t outputs) {
  return w.pad > 0 || windows_reach(w, outputs) > size;
}

PanelProduct make_product(const ProductShape& shape, const LayerWeights& weights,
                          const Epilogue& epilogue, ErrorBound bound, bool scaled) {
  return {shape, pack_panels(shape, weights, bound), epilogue, scaled};
}

std::int64_t rows_at_once(const PanelProduct& product, const ImageShape& output) {
  if (output.width == 0) return 1;
  return std::max<std::int64_t>(1,
                                static_cast<std::int64_t>(product.pixels_at_once()) / output.width);
}

}  // namespace

ConvRows::ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                   PanelProduct product)
    : RowOp(input, output),
      window_(window),
      product_(std::move(product)),
      stretches_(product_.shape().sparse ? stretches(window.columns, input.width, output.width)
                                         : std::vector<Stretch>()),
      copies_rows_(stretches_.empty() &&
                   (needs_padding(window.rows, input.height, output.height) ||
                    needs_padding(window.columns, input.width, output.width))),
      most_rows_(rows_at_once(product_, output)) {}

ConvRows::ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                   std::int64_t groups, const LayerWeights& weights, const Epilogue& epilogue,
                   ErrorBound bound, bool scaled)
    : ConvRows(input, output, window,
               make_product(product_shape(input, output, window, groups), weights, epilogue, bound,
                            scaled)) {}

ConvRows::ConvRows(const ImageShape& input, const ImageShape& output, const Window2d& window,
                   PackedPanels packed, const Epilogue& epilogue)
    : ConvRows(input, output, window,
               PanelProduct(product_shape(input, output, window, 1), std::move(packed), epilogue)) {
}

// Where leaving taps out saves more than products in pairs or AMX would, which cannot do so. A
// stretch of a row takes as long as six pixels at least.
double ConvRows::computed_part(const ImageShape& input, const ImageShape& output,
                               const Window2d& window) {
  constexpr std::int64_t kLeastPixels = 6;
  const double worth = amx_kernels() ? 0.35 : 0.7;
  std::int64_t rows = 0, columns = 0;
  for (const Stretch& s : stretches(window.rows, input.height, output.height)) {
    rows += s.outputs.size() * s.taps;
  }
  for (const Stretch& s : stretches(window.columns, input.width, output.width)) {
    columns += std::max(s.outputs.size(), kLeastPixels) * s.taps;
  }
  const double all = static_cast<double>(output.height * output.width * window.taps());
  const double part = static_cast<double>(rows * columns) / all;
  return part < worth ? part : 1;
}

RowRange ConvRows::input_rows(RowRange out) const {
  return positions(window_.rows, out, input().height);
}

std::size_t ConvRows::workspace_bytes(std::int64_t rows) const {
  rows = std::min(rows, most_rows_);
  const std::size_t source_rows = to_size(windows_reach(window_.rows, rows));
  std::size_t bytes = align_up(source_rows * sizeof(float*)) +
                      align_up(most_runs(rows) * sizeof(PixelRun)) +
                      align_up(most_runs(rows) * taps() * sizeof(const float*)) +
                      product_.workspace_bytes(to_size(rows * output().width));
  if (copies_rows_) bytes += (source_rows + 1) * align_up(padded_row_floats() * sizeof(float));
  return bytes;
}

// Of so many rows.
std::size_t ConvRows::most_runs(std::int64_t rows) const {
  return to_size(rows) * std::max<std::size_t>(1, stretches_.size());
}

std::size_t ConvRows::padded_row_floats() const {
  return to_size(windows_reach(window_.columns, output().width) * input().channels);
}

ConvRows::Sources ConvRows::pad_rows(RowRange out, const InputRows& x,
                                     std::byte*& workspace) const {
  const std::int64_t first = out.begin * window_.rows.stride - window_.rows.pad;
  const std::int64_t count = windows_reach(window_.rows, out.size());
  Carver carver(workspace);
  const float** rows = carver.take<const float*>(to_size(count));
  if (!copies_rows_) {
    for (std::int64_t i = 0; i < count; ++i) rows[i] = x.row[first + i - x.first];
    workspace = carver.rest();
    return {rows, first};
  }
  const std::size_t floats = padded_row_floats();
  const std::size_t left = std::min(to_size(window_.columns.pad * input().channels), floats);
  const std::size_t inside = std::min(floats - left, to_size(input().row_floats()));
  float* zeros = carver.take<float>(floats);
  std::fill_n(zeros, floats, 0.0F);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t r = first + i;
    if (r < 0 || r >= input().height) {
      rows[i] = zeros;
      continue;
    }
    float* row = carver.take<float>(floats);
    std::fill_n(row, left, 0.0F);
    std::copy_n(x.row[r - x.first], inside, row + left);
    std::fill(row + left + inside, row + floats, 0.0F);
    rows[i] = row;
  }
  workspace = carver.rest();
  return {rows, first};
}

void ConvRows::run_rows(RowRange out, const InputRows& x, const float* const* residual,
                        float* const* y, std::byte* workspace) const {
  run_part(whole(out), x, residual, y, workspace);
}

// Whether a group's part of every pixel is whole cache lines.
bool ConvRows::makes_whole_lines() const {
  return whole_lines(output_pixel()) &&
         whole_lines(static_cast<std::int64_t>(product_.shape().columns));
}

// Panels of weights, of as many columns together as a cache line has.
std::int64_t ConvRows::shares() const {
  const std::size_t together = std::max<std::size_t>(1, kLineFloats / product_.panel_columns());
  return makes_whole_lines() ? static_cast<std::int64_t>(divide_up(product_.panels(), together))
                             : 1;
}

RowRange ConvRows::share_panels(RowRange shares) const {
  const std::int64_t all = ConvRows::shares();
  const auto panels = static_cast<std::int64_t>(product_.panels());
  const std::int64_t each = (panels + all - 1) / all;
  return {shares.begin * each, std::min(panels, shares.end * each)};
}

RowRange ConvRows::share_channels(RowRange shares) const {
  const RowRange panels = share_panels(shares);
  const auto channel = [&](std::int64_t panel) {
    return static_cast<std::int64_t>(product_.channel(to_size(panel)));
  };
  return {channel(panels.begin), channel(panels.end)};
}

void ConvRows::run_part(const Part& part, const InputRows& x, const float* const* residual,
                        float* const* y, std::byte* workspace) const {
  const RowRange out = part.rows;
  const std::int64_t bands = (out.size() + most_rows_ - 1) / most_rows_;
  for (std::int64_t i = 0, first = 0, end = 0; i < bands; ++i, first = end) {
    end = out.size() * (i + 1) / bands;
    const Part band = piece(part, {out.begin + first, out.begin + end});
    run_band(band, x, residual ? residual + first : nullptr, y + first, workspace);
  }
}

void ConvRows::run_band(const Part& band, const InputRows& x, const float* const* residual,
                        float* const* y, std::byte* workspace) const {
  const RowRange out = band.rows;
  const bool sparse = product_.shape().sparse;
  const Sources source = sparse ? Sources{} : pad_rows(out, x, workspace);
  Carver carver(workspace);
  PixelRun* runs = carver.take<PixelRun>(most_runs(out.size()));
  const float** places = carver.take<const float*>(most_runs(out.size()) * taps());
  const std::size_t count = sparse ? find_stretches(band, x, residual, y, places, runs)
                                   : find_runs(band, source, residual, y, places, runs);
  product_.run(share_panels(band.shares),
               {.runs = {runs, count},
                .a_step = a_step(),
                .c_step = to_size(output_pixel()),
                .scale = x.scale,
                .behind = behind(x, input_rows(out)),
                .streams = streams({runs, count})},
               carver.rest());
}

// Where the taps of a band's outputs are; returns how many runs these make.
std::size_t ConvRows::find_runs(const Part& band, const Sources& source,
                                const float* const* residual, float* const* y, const float** places,
                                PixelRun* runs) const {
  const std::size_t per_row = taps() / to_size(window_.rows.size);
  const std::size_t tap_step = to_size(window_.columns.dilation * input().channels);
  const std::int64_t rows = band.rows.size();
  std::size_t count = 0;
  for (std::int64_t r = 0; r < rows; ++r, places += taps()) {
    const RowRange columns{r == 0 ? band.first_column : 0,
                           r + 1 == rows ? band.end_column : output().width};
    const std::size_t left = to_size(columns.begin) * a_step();
    const std::size_t at = to_size(columns.begin * output_pixel());
    for (std::int64_t ky = 0; ky < window_.rows.size; ++ky) {
      const float* row = source.row[r * window_.rows.stride + ky * window_.rows.dilation] + left;
      for (std::size_t kx = 0; kx < per_row; ++kx) {
        places[to_size(ky) * per_row + kx] = row + kx * tap_step;
      }
    }
    const PixelRun run{places, y[r] + at, residual ? residual[r] + at : nullptr,
                       to_size(columns.size())};
    if (count > 0 && continues(runs[count - 1], run)) {
      runs[count - 1].pixels += run.pixels;
    } else {
      runs[count++] = run;
    }
  }
  return count;
}

// The same by stretches of rows, without taps in the padding.
std::size_t ConvRows::find_stretches(const Part& band, const InputRows& x,
                                     const float* const* residual, float* const* y,
                                     const float** places, PixelRun* runs) const {
  std::size_t count = 0;
  for (std::int64_t r = 0; r < band.rows.size(); ++r) {
    const std::int64_t first = r == 0 ? band.first_column : 0;
    const std::int64_t end = r + 1 == band.rows.size() ? band.end_column : output().width;
    for (const Stretch& stretch : stretches_) {
      const RowRange columns{std::max(first, stretch.outputs.begin),
                             std::min(end, stretch.outputs.end)};
      if (columns.begin >= columns.end) continue;
      const std::size_t at = to_size(columns.begin * output_pixel());
      runs[count++] = {places, y[r] + at, residual ? residual[r] + at : nullptr,
                       to_size(columns.size())};
      for (std::int64_t t = 0; t < window_.taps(); ++t, ++places) {
        const std::int64_t ky = t / window_.columns.size, kx = t % window_.columns.size;
        const std::int64_t row = (band.rows.begin + r) * window_.rows.stride +
                                 ky * window_.rows.dilation - window_.rows.pad;
        const std::int64_t column = columns.begin * window_.columns.stride +
                                    kx * window_.columns.dilation - window_.columns.pad;
        const bool there =
            row >= 0 && row < input().height && column >= 0 && column < input().width;
        *places = there ? x.row[row - x.first] + column * input_pixel() : nullptr;
      }
    }
  }
  return count;
}

// As in GemmTile. Rows that were copied are dense, and so are those they were copied from.
std::size_t ConvRows::a_step() const { return to_size(window_.columns.stride * input_pixel()); }

// Whether the pixels of b follow those of a at the same steps, in every tap and in the output.
bool ConvRows::continues(const PixelRun& a, const PixelRun& b) const {
  const std::size_t in = a.pixels * a_step(), out = a.pixels * to_size(output_pixel());
  for (std::size_t t = 0; t < taps(); ++t) {
    if (a.taps[t] + in != b.taps[t]) return false;
  }
  return a.y + out == b.y && (!a.residual || a.residual + out == b.residual);
}

// Whether every row of every tile is whole cache lines; what is activated is read again.
bool ConvRows::streams(std::span<const PixelRun> runs) const {
  if (!past_caches_ || product_.epilogue().kind != ActivationKind::kNone) return false;
  const bool lines = makes_whole_lines() && product_.panel_columns() % kLineFloats == 0;
  return lines && std::all_of(runs.begin(), runs.end(),
                              [](const PixelRun& run) { return is_aligned(run.y); });
}

// What is read after these rows of images from memory: as much as they are, if there is.
std::span<const float> ConvRows::behind(const InputRows& x, RowRange in) const {
  if (x.end == nullptr || in.size() == 0) return {};
  const float* next = x.row[in.end - 1 - x.first] + input_row_floats();
  const std::int64_t left = std::max<std::int64_t>(0, x.end - next);
  return {next, to_size(std::min(left, in.size() * input_row_floats()))};
}

double ConvRows::flops() const {
  const double products = static_cast<double>(product_.shape().products());
  return 2.0 * static_cast<double>(output().height * output().row_floats()) * products;
}

std::string ConvRows::describe() const {
  const std::string kind = window_.taps() == 1
                               ? "pointwise"
                               : fmt::format("conv {}x{}", window_.rows.size, window_.columns.size);
  const std::size_t groups = product_.shape().groups;
  const std::string group = groups > 1 ? fmt::format(" g{}", groups) : "";
  return fmt::format("{}{}{}{}{} {}", product_.scaled() ? "scaled " : "", kind, group,
                     describe_steps(window_), product_.shape().sparse ? " without padding" : "",
                     product_.describe());
}

}  // namespace sepconv
