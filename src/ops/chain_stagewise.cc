// A chain on several threads and one image, stage by stage.

#include <algorithm>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "ops/chain.h"

namespace sepconv {

namespace {
// What a core computes while threads meet once: some 2 µs.
constexpr double kMeetingFlops = 4e5;
}  // namespace

// For one image, in operations of the busiest thread.
struct Chain::Times {
  double by_rows;    // each thread runs its own rows of the result through all stages
  double stagewise;  // threads share out one stage after the other
};

Chain::Times Chain::times(int threads) const {
  const std::int64_t height = output().height;
  const std::int64_t parts = std::min<std::int64_t>(threads, std::max<std::int64_t>(height, 1));
  Times t{parts > 1 ? seam_flops_ : 0, 0};
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    const std::int64_t rows = whole_[i].size();
    if (rows == 0) continue;
    const double flops =
        op.flops() * static_cast<double>(rows) / static_cast<double>(op.output().height);
    t.by_rows += busiest({parts, 1}, op, rows) * flops;
    t.stagewise += busiest(make_grid(op, rows, threads), op, rows) * flops;
    if (i > 0) t.stagewise += kMeetingFlops;
  }
  return t;
}

bool Chain::runs_stagewise(int threads) const {
  const unsigned asked = 2 * static_cast<unsigned>(threads);
  const unsigned last = last_answer_->load(std::memory_order_relaxed);
  if (last / 2 * 2 == asked) return last % 2 == 1;
  const bool answer = gains_stagewise(threads);
  last_answer_->store(asked + (answer ? 1 : 0), std::memory_order_relaxed);
  return answer;
}

bool Chain::gains_stagewise(int threads) const {
  if (threads < 2 || output().height == 0) return false;
  std::size_t between = 0;
  for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
    const ImageShape& s = stages_[i].op->output();
    if (!stages_[i].kept) between += to_size(s.height * s.row_floats()) * sizeof(float);
  }
  // What lies between two stages stays in the threads' caches.
  if (between > to_size(threads) * l2_cache_bytes() / 2) return false;
  const Times t = times(threads);
  return t.stagewise < 0.98 * t.by_rows;
}

double Chain::speedup(int threads) const {
  const Times t = times(threads);
  return flops_ / (runs_stagewise(threads) ? t.stagewise : t.by_rows);
}

// Of any cell of a stage's grid: row pointers, and the op's own.
std::size_t Chain::cell_bytes(int threads) const {
  std::size_t most = 0;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    const Grid grid = make_grid(op, whole_[i].size(), threads);
    const std::int64_t rows = (whole_[i].size() + grid.rows - 1) / grid.rows;
    most = std::max(most, align_up(sizeof(float*) * to_size(op.input().height)) +
                              2 * align_up(sizeof(float*) * to_size(rows)) +
                              align_up(op.workspace_bytes(std::max<std::int64_t>(rows, 1))));
  }
  return most;
}

// Whole images between the stages, then the cells.
std::size_t Chain::stagewise_bytes(int threads) const {
  std::size_t bytes = align_up(sizeof(float*) * stages_.size());
  for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
    const ImageShape& s = stages_[i].op->output();
    if (!stages_[i].kept) {
      bytes += align_up(sizeof(float) * to_size(s.height * s.row_floats())) + kStagger;
    }
  }
  return bytes + to_size(threads) * cell_bytes(threads);
}

void Chain::run_stagewise(const Images& images, std::byte* workspace,
                          const ThreadPool& pool) const {
  const std::size_t bytes = cell_bytes(pool.threads());
  Carver carver(workspace);
  float** rings = carver.take<float*>(stages_.size());
  for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
    const ImageShape& s = stages_[i].op->output();
    rings[i] = stages_[i].kept ? images.kept : take_ring(carver, i, s.height * s.row_floats());
  }
  std::byte* cells = carver.rest();
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    const RowRange rows = whole_[i];
    if (rows.size() == 0) continue;
    const Grid grid = make_grid(op, rows.size(), pool.threads());
    pool.parallel_for(to_size(grid.cells()), [&](std::size_t cell) {
      const auto n = static_cast<std::int64_t>(cell);
      RowRange own = Grid::part(rows.size(), n / grid.shares, grid.rows);
      own = {rows.begin + own.begin, rows.begin + own.end};
      Carver of_cell(cells + cell * bytes);
      Scratch s{};
      s.rings = rings;
      s.whole = true;
      s.in = of_cell.take<const float*>(to_size(op.input().height));
      s.add = of_cell.take<const float*>(to_size(own.size()));
      s.out = of_cell.take<float*>(to_size(own.size()));
      s.op = of_cell.rest();
      run_stage(i, own, Grid::part(op.shares(), n % grid.shares, grid.shares), images, s);
    });
  }
}

}  // namespace sepconv
