#include "ops/winograd_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/sizes.h"

namespace sepconv {

namespace {

// G·g·Gᵀ of a 3×3 kernel; in double, as rounding it is the one error that every image shares.
std::array<double, kWinogradProducts> transform_weight(const float* g) {
  const auto spread = [](double a, double b, double c) {
    return std::array<double, 4>{a, (a + b + c) / 2, (a - b + c) / 2, c};
  };
  std::array<std::array<double, 4>, 3> columns{};
  for (std::size_t j = 0; j < 3; ++j) {
    columns[j] = spread(static_cast<double>(g[j]), static_cast<double>(g[3 + j]),
                        static_cast<double>(g[6 + j]));
  }
  std::array<double, kWinogradProducts> u{};
  for (std::size_t r = 0; r < 4; ++r) {
    const auto row = spread(columns[0][r], columns[1][r], columns[2][r]);
    std::copy(row.begin(), row.end(), u.begin() + static_cast<std::ptrdiff_t>(4 * r));
  }
  return u;
}

}  // namespace

WinogradRows::WinogradRows(const ImageShape& input, const ImageShape& output,
                           const Window2d& window, const LayerWeights& weights,
                           const Epilogue& epilogue)
    : RowOp(input, output),
      window_(window),
      epilogue_(epilogue),
      tiles_(divide_up(to_size(output.width), 2)),
      kernels_(&winograd_kernels()) {
  packed_ = weights.packed(fmt::format("winograd {}", gemm_kernels().columns),
                           [&] { return pack(weights.weight(), weights.bias()); });
  const auto width = static_cast<std::int64_t>(tiles_);
  const std::int64_t height = (output.height + 1) / 2;
  for (std::size_t p = 0; p < kWinogradProducts; ++p) {
    products_.push_back(std::make_unique<ConvRows>(
        ImageShape{height, width, input.channels}, ImageShape{height, width, output.channels},
        Window2d{{1, 1, 1, 0}, {1, 1, 1, 0}},
        ConvRows::Packed{packed_,
                         p * gemm_weight_floats(to_size(output.channels), to_size(input.channels))},
        Epilogue()));
  }
}

SharedWeights WinogradRows::pack(const float* weight, const float* bias) const {
  const std::size_t c = to_size(input().channels), n = to_size(output().channels);
  std::vector<float> matrices(kWinogradProducts * n * c);
  for (std::size_t i = 0; i < n * c; ++i) {
    const auto u = transform_weight(weight + 9 * i);
    for (std::size_t p = 0; p < kWinogradProducts; ++p) {
      matrices[p * n * c + i] = static_cast<float>(u[p]);
    }
  }
  const std::size_t each = gemm_weight_floats(n, c), zeros = gemm_bias_floats(n);
  auto packed = std::make_shared<PackedWeights>(kWinogradProducts * each, 2 * zeros);
  for (std::size_t p = 0; p < kWinogradProducts; ++p) {
    pack_gemm_weights(matrices.data() + p * n * c, nullptr, n, c, 1,
                      packed->weights.get() + p * each, packed->bias.get());
  }
  if (bias) std::copy_n(bias, n, packed->bias.get() + zeros);
  return packed;
}

// Few tiles would read the 16 matrices of weights, 16/9 as many bytes as the direct kernel's, for
// too little work, and few channels do too little between the transforms.
bool WinogradRows::pays(const ImageShape& input, const ImageShape& output, const Window2d& window,
                        std::int64_t groups) {
  constexpr std::int64_t kLeastTiles = 40, kLeastChannels = 32;
  const auto fits = [](const Window& w) { return w.size == 3 && w.stride == 1 && w.dilation == 1; };
  const std::int64_t tiles = ((output.height + 1) / 2) * ((output.width + 1) / 2);
  return fits(window.rows) && fits(window.columns) && groups == 1 && tiles >= kLeastTiles &&
         input.channels >= kLeastChannels && output.channels >= kLeastChannels;
}

RowRange WinogradRows::input_rows(RowRange out) const {
  return positions(window_.rows, out, input().height);
}

std::size_t WinogradRows::matrix_floats(std::size_t tile_rows, std::int64_t channels) const {
  return align_up(tile_rows * tiles_ * to_size(channels) * sizeof(float)) / sizeof(float);
}

std::size_t WinogradRows::workspace_bytes(std::int64_t rows) const {
  const std::int64_t tile_rows = rows / 2 + 1;  // one more where the first row is an odd one
  const std::size_t floats = matrix_floats(to_size(tile_rows), input().channels) +
                             matrix_floats(to_size(tile_rows), output().channels);
  return kWinogradProducts * floats * sizeof(float) +
         2 * align_up(to_size(tile_rows) * sizeof(float*)) +
         products_.front()->workspace_bytes(tile_rows);
}

// Channels are shared out as by the products; every share transforms all of the input, some
// hundredth of the work.
std::int64_t WinogradRows::shares() const {
  constexpr std::int64_t kLine = kAlignment / sizeof(float);
  return output_pixel() % kLine == 0 ? products_.front()->shares() : 1;
}

void WinogradRows::run_rows(RowRange out, const InputRows& x, const float* const* residual,
                            float* const* y, std::byte* workspace) const {
  run_shares({0, shares()}, out, x, residual, y, workspace);
}

void WinogradRows::run_shares(RowRange shares, RowRange out, const InputRows& x,
                              const float* const* residual, float* const* y,
                              std::byte* workspace) const {
  const std::int64_t first = out.begin / 2, last = (out.end + 1) / 2;
  const std::size_t rows = to_size(last - first);
  Carver carver(workspace);
  const float** in = carver.take<const float*>(rows);
  float** products = carver.take<float*>(rows);
  const std::size_t in_matrix = matrix_floats(rows, input().channels);
  const std::size_t out_matrix = matrix_floats(rows, output().channels);
  float* spread = carver.take<float>(kWinogradProducts * in_matrix);
  float* summed = carver.take<float>(kWinogradProducts * out_matrix);
  const std::size_t in_row = tiles_ * to_size(input().channels);
  const std::size_t out_row = tiles_ * to_size(output().channels);

  WinogradTiles args{.tiles = tiles_,
                     .channels = to_size(input().channels),
                     .width = input().width,
                     .matrix = in_matrix,
                     .pitch = to_size(input().channels),
                     .left = -window_.columns.pad};
  for (std::size_t t = 0; t < rows; ++t) {
    const float* four[4];
    for (std::int64_t i = 0; i < 4; ++i) {
      const std::int64_t r = 2 * (first + static_cast<std::int64_t>(t)) + i - window_.rows.pad;
      const bool there = r >= 0 && r < input().height && r >= x.first;
      // A row that only outputs beyond `out` need may not be there.
      const bool needed = r < input_rows(out).end;
      four[i] = there && needed ? x.row[r - x.first] : nullptr;
    }
    args.in = four;
    kernels_->transform_input(args, spread + t * in_row);
  }
  for (std::size_t p = 0; p < kWinogradProducts; ++p) {
    for (std::size_t t = 0; t < rows; ++t) {
      in[t] = spread + p * in_matrix + t * in_row;
      products[t] = summed + p * out_matrix + t * out_row;
    }
    products_[p]->run_shares(shares, {0, static_cast<std::int64_t>(rows)}, {in, 0}, nullptr,
                             products, carver.rest());
  }
  const RowRange own = products_.front()->share_channels(shares);
  const float* bias = packed_->bias.get() + gemm_bias_floats(to_size(output().channels));
  args = {.tiles = tiles_,
          .channels = to_size(own.size()),
          .width = output().width,
          .matrix = out_matrix,
          .pitch = to_size(output().channels),
          .pixel = to_size(output_pixel()),
          .bias = bias + own.begin,
          .epilogue = epilogue_};
  for (std::size_t t = 0; t < rows; ++t) {
    float* two[2];
    const float* add[2];
    for (std::int64_t i = 0; i < 2; ++i) {
      const std::int64_t r = 2 * (first + static_cast<std::int64_t>(t)) + i - out.begin;
      const bool wanted = r >= 0 && r < out.size();
      two[i] = wanted ? y[r] + own.begin : nullptr;
      add[i] = wanted && residual ? residual[r] + own.begin : nullptr;
    }
    args.out = two;
    args.residual = residual ? add : nullptr;
    kernels_->transform_output(args, summed + own.begin + t * out_row);
  }
}

std::size_t WinogradRows::weight_bytes() const {
  return kWinogradProducts * products_.front()->weight_bytes();
}

// What a direct convolution would do, so that speeds compare.
double WinogradRows::flops() const {
  return 2.0 * 9 * static_cast<double>(output().height * output().row_floats()) *
         static_cast<double>(input().channels);
}

std::string WinogradRows::describe() const {
  return "conv 3x3 winograd 2x2, 16 of " + products_.front()->describe();
}

}  // namespace sepconv
