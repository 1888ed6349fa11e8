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
  double alone;
  double by_rows;    // each thread runs its own rows of the result through all stages
  double stagewise;  // threads share out one stage after the other
};

Chain::Times Chain::times(int threads) const {
  const std::int64_t height = output().height;
  const std::int64_t parts = std::min<std::int64_t>(threads, std::max<std::int64_t>(height, 1));
  Times t{0, parts > 1 ? seam_flops_ : 0, 0};
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    const std::int64_t rows = whole_[i].size();
    if (rows == 0) continue;
    t.alone += Grid::by_rows(op, whole_[i], 1).price();
    t.by_rows += Grid::by_rows(op, whole_[i], parts).price();
    t.stagewise += Grid::best(op, whole_[i], threads).price();
    if (i > 0) t.stagewise += kMeetingFlops;
  }
  // What lies between two stages stays in the threads' caches, or is written and read again.
  const std::size_t between = bytes_between();
  if (between > to_size(threads) * l2_cache_bytes() / 2) {
    t.stagewise += 2 * kFlopsPerByte * static_cast<double>(between) / threads;
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
  const Times t = times(threads);
  return t.stagewise < 0.98 * t.by_rows;
}

double Chain::speedup(int threads) const {
  const Times t = times(threads);
  return t.alone / (runs_stagewise(threads) ? t.stagewise : t.by_rows);
}

// Output rows of a stage that a cell computes at once: as many as one thread alone.
std::int64_t Chain::cell_rows(std::size_t i) const {
  const std::int64_t tile = stages_[i].op->row_tile();
  const std::int64_t rows = i + 1 < stages_.size() ? ring_rows_[i] : band_;
  return std::max<std::int64_t>(1, rows / tile) * tile;
}

// Of any cell of a stage's grid: row pointers, and the op's own.
std::size_t Chain::cell_bytes() const {
  std::size_t most = 0;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    const std::int64_t rows = cell_rows(i);
    most = std::max(most, align_up(sizeof(float*) * to_size(op.input().height)) +
                              2 * align_up(sizeof(float*) * to_size(rows)) +
                              align_up(op.workspace_bytes(rows)));
  }
  return most;
}

// Whole images between the stages, behind what threads have for themselves.
std::size_t Chain::bytes_between() const {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    if (!stages_[i].kept) {
      bytes +=
          align_up(sizeof(float) * to_size(op.output().height * op.output_row_floats())) + kStagger;
    }
  }
  return bytes;
}

void Chain::run_stagewise(const Images& images, std::byte* workspace,
                          const ThreadPool& pool) const {
  Carver carver(workspace + to_size(pool.threads()) * thread_bytes_);
  float** rings = carver.take<float*>(stages_.size());
  for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    rings[i] = stages_[i].kept ? images.kept
                               : take_ring(carver, i, op.output().height * op.output_row_floats());
  }
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    const RowRange rows = whole_[i];
    if (rows.size() == 0) continue;
    const Grid grid = Grid::best(op, rows, pool.threads());
    pool.parallel_for(to_size(grid.cells()), [&](std::size_t cell) {
      const Part own = grid.cell(static_cast<std::int64_t>(cell));
      Carver of_cell(workspace + cell * thread_bytes_);
      Scratch s{};
      s.rings = rings;
      s.whole = true;
      s.in = of_cell.take<const float*>(to_size(op.input().height));
      s.add = of_cell.take<const float*>(to_size(cell_rows(i)));
      s.out = of_cell.take<float*>(to_size(cell_rows(i)));
      s.op = of_cell.rest();
      for (std::int64_t r = own.rows.begin; r < own.rows.end; r += cell_rows(i)) {
        run_stage(i, op.piece(own, {r, std::min(own.rows.end, r + cell_rows(i))}), images, s);
      }
    });
  }
}

}  // namespace sepconv
