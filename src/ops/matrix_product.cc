#include "ops/matrix_product.h"

#include <algorithm>

#include "base/sizes.h"

namespace sepconv {

namespace {

// Rows that a thread takes at once: whole tiles, so that a panel is read from L2 rarely.
constexpr std::size_t kTiles = 8;

}  // namespace

MatrixProduct::MatrixProduct(const Shape& a, const Shape& out, std::int64_t matrices,
                             bool transposed)
    : Impl(a, out, Layout::kNHWC, false),
      transposed_(transposed),
      matrices_(to_size(a[0] * matrices)),
      rows_(to_size(a[2] / matrices)),
      depth_(to_size(a[1])),
      columns_(to_size(out[1])),
      gemm_(&gemm_kernels()),
      no_bias_(make_aligned<float>(gemm_->columns)) {}

std::size_t MatrixProduct::panels() const { return divide_up(columns_, gemm_->columns); }

std::size_t MatrixProduct::sum_floats() const {
  return depth_ > kGemmPart ? kTiles * gemm_->rows * gemm_->columns : 0;
}

std::size_t MatrixProduct::workspace_bytes(int threads) const {
  const std::size_t packed = matrices_ * panels() * gemm_->columns * depth_;
  return align_up(packed * sizeof(float)) +
         to_size(threads) * align_up(sum_floats() * sizeof(float));
}

// [depth][columns], from b's rows or, transposed, its columns.
void MatrixProduct::pack(const float* b, std::size_t panel, float* to) const {
  const std::size_t first = panel * gemm_->columns;
  const std::size_t count = std::min(gemm_->columns, columns_ - first);
  const std::size_t width = gemm_->panel_width(count);
  if (!transposed_) {
    gemm_->copy_panel(b + first, columns_, depth_, count, to);
  } else {
    std::fill_n(to, depth_ * width, 0.0F);
    for (std::size_t j = 0; j < count; ++j) {
      const float* const column = b + (first + j) * depth_;
      for (std::size_t k = 0; k < depth_; ++k) to[k * width + j] = column[k];
    }
  }
  for (std::size_t k = 0; k < depth_; ++k) finish_panel_row(*gemm_, count, to + k * width);
}

void MatrixProduct::multiply(const float* a, const float* panels, std::size_t rows, float* y,
                             float* sums) const {
  GemmTile tile{};
  tile.a = &a;
  tile.a_step = depth_;
  tile.taps = 1;
  tile.k = depth_;
  tile.bias = no_bias_.get();
  tile.c_step = columns_;
  for (std::size_t first = 0; first < columns_; first += gemm_->columns) {
    tile.b = panels + first * depth_;
    tile.columns = std::min(gemm_->columns, columns_ - first);
    tile.ahead = reinterpret_cast<const char*>(tile.b);
    for (tile.start = 0; tile.start < depth_; tile.start += tile.count) {
      tile.count = std::min(kGemmPart, depth_ - tile.start);
      tile.sums = depth_ > kGemmPart ? sums : nullptr;
      tile.a_offset = 0;
      tile.c = y + first;
      multiply_rows(*gemm_, tile, rows);
    }
  }
}

void MatrixProduct::run(const float* a, std::span<const float* const> sides, float* y,
                        std::byte* workspace, const ThreadPool& pool) const {
  const std::size_t threads = to_size(pool.threads());
  const std::size_t panel_floats = gemm_->columns * depth_, each = panels() * panel_floats;
  Carver carver(workspace);
  float* const packed = carver.take<float>(matrices_ * each);
  float* const sums = carver.take<float>(0);
  pool.parallel_for(matrices_ * panels(), [&](std::size_t i) {
    pack(sides[0] + i / panels() * depth_ * columns_, i % panels(), packed + i * panel_floats);
  });
  const std::size_t together = kTiles * gemm_->rows, parts = divide_up(rows_, together);
  const std::size_t all = matrices_ * parts,
                    sum_step = align_up(sum_floats() * sizeof(float)) / sizeof(float);
  pool.parallel_for(std::min(threads, all), [&](std::size_t thread) {
    const std::size_t count = std::min(threads, all);
    for (std::size_t i = all * thread / count; i < all * (thread + 1) / count; ++i) {
      const std::size_t matrix = i / parts, row = i % parts * together;
      const std::size_t at = matrix * rows_ + row;
      multiply(a + at * depth_, packed + matrix * each, std::min(together, rows_ - row),
               y + at * columns_, sums + thread * sum_step);
    }
  });
}

std::string MatrixProduct::describe() const { return "matrix product, " + gemm_->describe(); }

double MatrixProduct::flops() const {
  return 2.0 * static_cast<double>(output.elements()) * static_cast<double>(depth_);
}

}  // namespace sepconv
