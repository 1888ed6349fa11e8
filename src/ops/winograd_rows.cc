#include "ops/winograd_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/sizes.h"

namespace sepconv {

namespace {

using Points = std::array<double, kMaxWinogradPoints>;

// G·g along one axis: the taps' polynomial at every point, divided by the product of the point's
// distances from the others; at infinity its last coefficient. In double, as rounding weights is
// the one error that every image shares.
Points at_points(WinogradSize size, const double* taps) {
  const double small = std::sqrt(0.5);
  const Points points =
      size.points() == 4 ? Points{0, 1, -1} : Points{0, small, -small, 2 * small, -2 * small};
  const std::size_t finite = size.points() - 1;
  Points y{};
  for (std::size_t p = 0; p < finite; ++p) {
    double value = 0, distances = 1;
    for (std::size_t t = size.taps; t-- > 0;) value = value * points[p] + taps[t];
    for (std::size_t q = 0; q < finite; ++q) distances *= p == q ? 1 : points[p] - points[q];
    y[p] = value / distances;
  }
  y[finite] = taps[size.taps - 1];
  return y;
}

// G·g·Gᵀ of a kernel.
void transform_weight(WinogradSize size, const float* g, double* u) {
  const std::size_t taps = size.taps, points = size.points();
  std::array<Points, kMaxWinogradPoints> columns{};
  Points line{};
  for (std::size_t j = 0; j < taps; ++j) {
    for (std::size_t i = 0; i < taps; ++i) line[i] = static_cast<double>(g[i * taps + j]);
    columns[j] = at_points(size, line.data());
  }
  for (std::size_t r = 0; r < points; ++r) {
    for (std::size_t j = 0; j < taps; ++j) line[j] = columns[j][r];
    const Points row = at_points(size, line.data());
    std::copy_n(row.begin(), points, u + r * points);
  }
}

// What making and reading one of a tile's values of a transform takes, in multiplications
// (measured with AVX-512).
constexpr double kTransform = 8;

// What a product of a pixel costs, in multiplications: these, going from one tile of GEMM to the
// next, and `values` of the transforms.
double by_pixel(std::size_t depth, std::size_t out, std::size_t values) {
  constexpr double kBetweenTiles = 4;
  return (static_cast<double>(depth) + kBetweenTiles) * static_cast<double>(out) +
         kTransform * static_cast<double>(values);
}

// What `products` products of [pixels][depth] by [depth][out] cost: beside those, fetching weights
// from memory, which threads share.
double multiplications(std::size_t products, std::size_t pixels, std::size_t depth, std::size_t out,
                       std::size_t values) {
  constexpr double kFetch = 32;
  const double weights = static_cast<double>(depth) * static_cast<double>(out);
  return static_cast<double>(products) *
         (static_cast<double>(pixels) * by_pixel(depth, out, values) + kFetch * weights);
}

// Of tiles that lie within each other.
std::size_t blocks(std::int64_t outputs, WinogradSize size, const Window& window) {
  return divide_up(to_size(outputs), size.outputs * to_size(window.dilation));
}

// Whole vectors.
std::size_t padded(std::int64_t channels) {
  const std::size_t lanes = gemm_kernels().columns / 2;
  return lanes * divide_up(to_size(channels), lanes);
}

}  // namespace

WinogradRows::WinogradRows(WinogradSize size, const ImageShape& input, const ImageShape& output,
                           const Window2d& window, const LayerWeights& weights,
                           const Epilogue& epilogue)
    : RowOp(input, output),
      size_(size),
      window_(window),
      epilogue_(epilogue),
      tiles_(blocks(output.width, size, window.columns) * block_tiles()),
      kernels_(&winograd_kernels(size)) {
  packed_ = weights.packed(fmt::format("winograd {} {}", size.outputs, gemm_kernels().columns),
                           [&](PageArena* arena) { return pack(weights, arena); });
  const auto width = static_cast<std::int64_t>(tiles_);
  const auto height = static_cast<std::int64_t>(blocks(output.height, size, window.rows));
  for (std::size_t p = 0; p < size.products(); ++p) {
    products_.push_back(std::make_unique<ConvRows>(
        ImageShape{height, width, input.channels}, ImageShape{height, width, output.channels},
        Window2d{{1, 1, 1, 0}, {1, 1, 1, 0}},
        PackedPanels{packed_,
                     p * gemm_weight_floats(to_size(output.channels), to_size(input.channels))},
        Epilogue()));
  }
}

SharedWeights WinogradRows::pack(const LayerWeights& layer, PageArena* arena) const {
  const float *weight = layer.weight(), *bias = layer.bias();
  const std::size_t c = to_size(input().channels), n = to_size(output().channels);
  const std::size_t products = size_.products(), taps = size_.taps * size_.taps;
  std::vector<float> matrices(products * n * c);
  std::vector<double> u(products);
  for (std::size_t i = 0; i < n * c; ++i) {
    transform_weight(size_, weight + taps * i, u.data());
    for (std::size_t p = 0; p < products; ++p) matrices[p * n * c + i] = static_cast<float>(u[p]);
  }
  const std::size_t each = gemm_weight_floats(n, c), zeros = gemm_bias_floats(n);
  auto packed = std::make_shared<PackedWeights>(products * each, 2 * zeros, arena);
  for (std::size_t p = 0; p < products; ++p) {
    pack_gemm_weights(matrices.data() + p * n * c, nullptr, n, c, 1,
                      packed->weights.get() + p * each, packed->bias.get());
  }
  if (bias) std::copy_n(bias, n, packed->bias.get() + zeros);
  return packed;
}

// Short sums are accurate where they are computed directly: behind two layers of 32 channels the
// roundings of six points came to 2.7 times PyTorch's.
constexpr std::size_t kLeastChannelsOfSix = 48;

constexpr WinogradSize kSizes[] = {{2, 3}, {4, 3}, {2, 5}};

bool WinogradRows::suits(const Window2d& window, std::int64_t groups) {
  const auto fits = [&](const Window& w) { return w.size == window.rows.size && w.stride == 1; };
  const bool known = std::any_of(std::begin(kSizes), std::end(kSizes), [&](WinogradSize size) {
    return size.taps == to_size(window.rows.size);
  });
  return known && fits(window.rows) && fits(window.columns) && groups == 1;
}

std::optional<WinogradSize> WinogradRows::best(const ImageShape& input, const ImageShape& output,
                                               const Window2d& window, std::int64_t groups) {
  if (!suits(window, groups)) return {};
  const std::size_t taps = to_size(window.rows.size);
  const std::size_t in = to_size(input.channels), out = to_size(output.channels);
  const std::size_t height = to_size(output.height), width = to_size(output.width);
  const std::size_t values = padded(input.channels) + padded(output.channels);
  double least = multiplications(1, height * width, taps * taps * in, out, 0) *
                 ConvRows::computed_part(input, output, window);
  std::optional<WinogradSize> chosen;
  for (const WinogradSize size : kSizes) {
    const std::size_t tiles = blocks(output.height, size, window.rows) *
                              blocks(output.width, size, window.columns) *
                              to_size(window.rows.dilation * window.columns.dilation);
    const double cost = multiplications(size.products(), tiles, in, out, values);
    const bool accurate = size.points() == 4 || in >= kLeastChannelsOfSix;
    if (size.taps != taps || !accurate || cost >= least) continue;
    chosen = size;
    least = cost;
  }
  return chosen;
}

// Those of whole tiles: what an output's products have of inputs that are not its own cancels out
// but for rounding, so that bits would depend on which rows are there.
RowRange WinogradRows::input_rows(RowRange out) const {
  return positions(window_.rows, whole_tiles(out), input().height);
}

std::size_t WinogradRows::matrix_floats(std::size_t tile_rows, std::int64_t channels) const {
  return align_up(tile_rows * tiles_ * to_size(channels) * sizeof(float)) / sizeof(float);
}

std::size_t WinogradRows::workspace_bytes(std::int64_t rows) const {
  // One more where the first row is not a tile's first.
  const std::int64_t tile_rows = (rows + 2 * row_tile() - 2) / row_tile();
  const std::size_t floats = matrix_floats(to_size(tile_rows), input().channels) +
                             matrix_floats(to_size(tile_rows), output().channels);
  return size_.products() * floats * sizeof(float) +
         2 * align_up(to_size(tile_rows) * sizeof(float*)) +
         products_.front()->workspace_bytes(tile_rows);
}

// All matrices of the input, whose values take longer than those of the output.
double WinogradRows::repeated() const {
  const std::size_t in = padded(input().channels), out = padded(output().channels);
  return 2 * kTransform * static_cast<double>(in) /
         by_pixel(to_size(input().channels), to_size(output().channels), in + out);
}

// Channels are shared out as by the products; every share transforms all of the input.
std::int64_t WinogradRows::shares() const {
  return whole_lines(output_pixel()) ? products_.front()->shares() : 1;
}

void WinogradRows::run_rows(RowRange out, const InputRows& x, const float* const* residual,
                            float* const* y, std::byte* workspace) const {
  run_part(whole(out), x, residual, y, workspace);
}

// Where the rows of blocks of a part are, and their matrices.
struct WinogradRows::Work {
  Part tiles;  ///< the part in tiles
  std::size_t rows;
  float *spread, *summed;  ///< of the first product, and from a product to the next:
  std::size_t in_matrix, out_matrix;

  /// The tiles of row t of blocks.
  RowRange columns(std::size_t t, std::size_t all) const {
    return {t == 0 ? tiles.first_column : 0,
            t + 1 == rows ? tiles.end_column : static_cast<std::int64_t>(all)};
  }
};

Part WinogradRows::in_tiles(const Part& part) const {
  const auto each = static_cast<std::int64_t>(block_tiles());
  return {{part.rows.begin / row_tile(), divide_up(part.rows.end, row_tile())},
          part.shares,
          part.first_column / column_tile() * each,
          divide_up(part.end_column, column_tile()) * each};
}

void WinogradRows::run_part(const Part& part, const InputRows& x, const float* const* residual,
                            float* const* y, std::byte* workspace) const {
  Work work{};
  work.tiles = in_tiles(part);
  work.rows = to_size(work.tiles.rows.size());
  work.in_matrix = matrix_floats(work.rows, input().channels);
  work.out_matrix = matrix_floats(work.rows, output().channels);
  Carver carver(workspace);
  work.spread = carver.take<float>(size_.products() * work.in_matrix);
  work.summed = carver.take<float>(size_.products() * work.out_matrix);
  spread(work, part.rows, x);
  multiply(work, carver.rest());
  gather(work, part.rows, residual, y);
}

// Tiles that are evenly spaced, one of each block: where their outputs begin, and where they are
// in the matrices.
struct WinogradRows::Tiles {
  std::int64_t row, column;
  std::size_t count, first;
};

template <class Each>
void WinogradRows::for_tiles(const Work& work, const Each& each) const {
  const std::int64_t rows = window_.rows.dilation, columns = window_.columns.dilation;
  for (std::size_t t = 0; t < work.rows; ++t) {
    const RowRange own = work.columns(t, tiles_);
    const std::int64_t top = row_tile() * (work.tiles.rows.begin + static_cast<std::int64_t>(t));
    const std::int64_t left = column_tile() * (own.begin / (rows * columns));
    std::size_t first = t * tiles_ + to_size(own.begin);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c, ++first) {
        each(Tiles{top + r, left + c, to_size(own.size()) / block_tiles(), first});
      }
    }
  }
}

// From the input to matrices.
void WinogradRows::spread(const Work& work, RowRange out, const InputRows& x) const {
  const std::int64_t end = input_rows(out).end;
  const std::size_t channels = to_size(input().channels);
  for_tiles(work, [&](const Tiles& tiles) {
    const float* under[kMaxWinogradPoints];
    for (std::size_t i = 0; i < size_.points(); ++i) {
      const std::int64_t r =
          tiles.row + static_cast<std::int64_t>(i) * window_.rows.dilation - window_.rows.pad;
      under[i] = r >= x.first && r < end ? x.row[r - x.first] : nullptr;
    }
    kernels_->transform_input({.tiles = tiles.count,
                               .channels = channels,
                               .width = input().width,
                               .matrix = work.in_matrix,
                               .pitch = block_tiles() * channels,
                               .step = column_tile(),
                               .dilation = window_.columns.dilation,
                               .in = under,
                               .left = tiles.column - window_.columns.pad},
                              work.spread + tiles.first * channels);
  });
}

void WinogradRows::multiply(const Work& work, std::byte* workspace) const {
  Carver carver(workspace);
  const float** in = carver.take<const float*>(work.rows);
  float** out = carver.take<float*>(work.rows);
  Part part = work.tiles;
  part.rows = {0, work.tiles.rows.size()};
  const std::size_t in_row = tiles_ * to_size(input().channels);
  const std::size_t out_row = tiles_ * to_size(output().channels);
  for (std::size_t p = 0; p < size_.products(); ++p) {
    for (std::size_t t = 0; t < work.rows; ++t) {
      in[t] = work.spread + p * work.in_matrix + t * in_row;
      out[t] = work.summed + p * work.out_matrix + t * out_row;
    }
    products_[p]->run_part(part, {in, 0}, nullptr, out, carver.rest());
  }
}

// From the products to the output.
void WinogradRows::gather(const Work& work, RowRange out, const float* const* residual,
                          float* const* y) const {
  const RowRange own = products_.front()->share_channels(work.tiles.shares);
  const std::size_t channels = to_size(output().channels);
  for_tiles(work, [&](const Tiles& tiles) {
    const std::int64_t end = tiles.column + static_cast<std::int64_t>(tiles.count) * column_tile();
    const std::int64_t width = std::min(output().width, end) - tiles.column;
    if (width <= 0) return;
    const std::int64_t at = tiles.column * output_pixel() + own.begin;
    float* to[kMaxWinogradOutputs];
    const float* add[kMaxWinogradOutputs];
    for (std::size_t i = 0; i < size_.outputs; ++i) {
      const std::int64_t r =
          tiles.row + static_cast<std::int64_t>(i) * window_.rows.dilation - out.begin;
      const bool wanted = r >= 0 && r < out.size();
      to[i] = wanted ? y[r] + at : nullptr;
      add[i] = wanted && residual ? residual[r] + at : nullptr;
    }
    kernels_->transform_output(
        {.tiles = tiles.count,
         .channels = to_size(own.size()),
         .width = width,
         .matrix = work.out_matrix,
         .pitch = block_tiles() * channels,
         .step = column_tile(),
         .dilation = window_.columns.dilation,
         .out = to,
         .pixel = to_size(output_pixel()),
         .residual = residual ? add : nullptr,
         .bias = packed_->bias.get() + gemm_bias_floats(channels) + own.begin,
         .epilogue = epilogue_},
        work.summed + tiles.first * channels + own.begin);
  });
}

std::size_t WinogradRows::weight_bytes() const {
  return size_.products() * products_.front()->weight_bytes();
}

// What a direct convolution would do, so that speeds compare.
double WinogradRows::flops() const {
  return 2.0 * static_cast<double>(size_.taps * size_.taps) *
         static_cast<double>(output().height * output().row_floats()) *
         static_cast<double>(input().channels);
}

std::string WinogradRows::describe() const {
  return fmt::format("conv {0}x{0}{1} winograd {2}x{2}, {3} of {4}", size_.taps,
                     describe_steps(window_), size_.outputs, size_.products(),
                     products_.front()->describe());
}

}  // namespace sepconv
