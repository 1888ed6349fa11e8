#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/sizes.h"
#include "ops/grid.h"
#include "ops/row_op.h"
#include "sepconv/threads.h"

namespace sepconv {

/// Row-local ops executed depth-first: band by band of the last op's rows, every op in between
/// keeping a ring of just the rows that are still needed, so that intermediates stay in L2. On one
/// thread no row is computed twice, and the order of tiles changes no arithmetic. A single op is a
/// chain of one.
class Chain {
 public:
  static constexpr int kInput = -1;  ///< the chain's input image
  static constexpr int kNone = -2;
  /// Image `j` from outside besides the input.
  static constexpr int side(int j) { return -3 - j; }

  struct Stage {
    std::shared_ptr<const RowOp> op;
    int input = kInput;   ///< kInput or an earlier stage
    int operand = kNone;  ///< kNone, kInput, an earlier stage or a side
    int scale = kNone;    ///< InputRows::scale: kNone or a side
    /// Its image is wanted whole besides the chain's own result. For the last stage but one, where
    /// the last reads just the rows that it makes.
    bool kept = false;
  };

  /// Stages in order of execution; the last one gives the result. Decides the band and the rings.
  explicit Chain(std::vector<Stage> stages);

  const std::vector<Stage>& stages() const { return stages_; }
  const ImageShape& input() const { return stages_.front().op->input(); }
  const ImageShape& output() const { return stages_.back().op->output(); }
  std::int64_t band() const { return band_; }
  /// Bytes of all rings: what the intermediates need instead of whole tensors.
  std::size_t ring_bytes() const;
  double flops() const;
  /// Bytes that move for one image, priced by where they come from, and the operations on rows that
  /// the result needs; for comparing ways to cut a network into chains.
  double cost() const { return cost_; }

  /// Whether threads share every stage out by rows and channels, one stage after the other, when
  /// there is but one image: where each running its own rows through all stages would compute too
  /// many at the seams, or leave threads idle.
  bool runs_stagewise(int threads) const;
  /// How much longer one image takes on one thread than on so many, by counting operations.
  double speedup(int threads) const;

  /// What a thread has of the workspace for itself, and how far those of threads are apart: in a
  /// network as far in every chain, so that what a thread writes to is in its own caches.
  std::size_t thread_bytes() const { return thread_bytes_; }
  void space_threads(std::size_t bytes) { thread_bytes_ = bytes; }
  std::size_t workspace_bytes(int threads) const;

  /// `images` images in a row at x, y, every side, and where a kept stage's go; bits do not depend
  /// on the threads.
  void run(std::int64_t images, const float* x, std::span<const float* const> sides, float* y,
           std::byte* workspace, const ThreadPool& pool, float* kept = nullptr) const;

 private:
  struct Images;
  struct Scratch;
  struct Times;
  /// Operations that take as long as a byte from beyond L2.
  static constexpr double kFlopsPerByte = 5;

  void needs(RowRange out, std::vector<RowRange>& need) const;
  std::int64_t band_step() const;
  // Floats from one row of the input image to the next; one that is an operand too is dense.
  std::int64_t input_row_floats() const { return stages_.front().op->input_row_floats(); }
  std::int64_t rows_held(std::size_t i, bool whole) const;
  Times times(int threads) const;
  bool gains_stagewise(int threads) const;
  std::int64_t cell_rows(std::size_t i) const;
  std::size_t cell_bytes() const;
  std::size_t bytes_between() const;
  void run_stagewise(const Images& images, std::byte* workspace, const ThreadPool& pool) const;
  void size_rings(std::int64_t band, std::int64_t step = 1);
  double price(std::int64_t band);
  double flops_of(const std::vector<RowRange>& rows) const;
  // Rings are at odd lines, each at another than its neighbours': what a network keeps between
  // chains is at even ones.
  static float* take_ring(Carver& carver, std::size_t i, std::int64_t floats) {
    return carver.take_staggered<float>(to_size(floats), 2 * i + 1);
  }
  std::size_t own_bytes() const;
  void run_rows(const Images& images, RowRange rows, std::byte* workspace) const;
  void run_stage(std::size_t i, const Part& part, const Images& images, const Scratch& s) const;

  std::vector<Stage> stages_;
  std::int64_t band_ = 1;
  double cost_ = 0;
  std::vector<std::int64_t> ring_rows_;  ///< by stage; 0 for the last
  std::size_t op_workspace_ = 0;
  std::size_t thread_bytes_ = 0;
  std::vector<RowRange> whole_;  ///< by stage: the rows that the whole result needs
  double flops_ = 0;             ///< of these
  double seam_flops_ = 0;        ///< more for every cut between two threads' rows
  /// What runs_stagewise() answered last: twice the threads, plus one for yes.
  std::unique_ptr<std::atomic<unsigned>> last_answer_ = std::make_unique<std::atomic<unsigned>>(0);
};

// The images of one run: the input, its sides and the output.
struct Chain::Images {
  const float* x;
  const float* end;  // of x and the images behind it, if they come from memory
  std::span<const float* const> sides;
  std::int64_t index;  // of the image, for the sides
  float* y;
  float* kept;  // the kept stage's, if there is one
};

// Where one thread keeps everything while it runs a chain.
struct Chain::Scratch {
  float** rings;      // one base pointer a stage
  bool whole;         // of whole images instead
  const float** in;   // row pointers for the op that runs
  const float** add;  // of its second operand
  float** out;
  std::byte* op;
};

}  // namespace sepconv
